//! A thread that is woken in time, whatever computes on its core.

/// The shortest slice that the kernel grants, in nanoseconds.
const SLICE: u64 = 100_000;

/// Has the kernel wake this thread when it asked to be. What it refuses, it does without.
///
/// A timer may be 50 us late, as others' are to fire with it. And since Linux 6.6 a thread that
/// computes is let finish its slice, of a millisecond and more, whoever is woken meanwhile;
/// since 6.12 but for one that asks for a shorter slice. Older kernels ignore that.
pub fn be_prompt() {
    // SAFETY: the calls read and write what they are given, with its size, and keep nothing of
    // it; all zeros are attributes, and the kernel fills them in.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, libc::c_ulong::from(1u8));
        let mut attributes: libc::sched_attr = std::mem::zeroed();
        let (this_thread, size, flags) = (0, size_of::<libc::sched_attr>(), 0);
        let got =
            libc::syscall(libc::SYS_sched_getattr, this_thread, &raw mut attributes, size, flags);
        if got == 0 {
            attributes.sched_runtime = SLICE;
            libc::syscall(libc::SYS_sched_setattr, this_thread, &raw const attributes, flags);
        }
    }
}
