//! The heap that guests made the host fill, given back to the system once it is free again.
//!
//! glibc keeps what is freed for the next who allocates, hundreds of MiB of it after a guest
//! has made the host hold much in small pieces. That is counted as free, so the next guest's
//! memory would come on top of it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use tokio::runtime::Handle;

/// Bytes that are freed before they are given back: it takes some milliseconds.
const GIVE_BACK_AFTER: usize = 32 << 20;

/// Free bytes that the end of a heap keeps, and the size from which an allocation has pages of
/// its own. At glibc's 128 KiB each large answer gives its pages back and faults them in anew,
/// 2.5 times the CPU of an answer of 1 MiB. Each thread that answers keeps so much at most.
#[cfg(target_env = "gnu")]
const KEPT: [(libc::c_int, libc::c_int); 2] =
    [(libc::M_TRIM_THRESHOLD, 16 << 20), (libc::M_MMAP_THRESHOLD, 8 << 20)];

static FREED: AtomicUsize = AtomicUsize::new(0);
static GIVING_BACK: AtomicBool = AtomicBool::new(false);

/// Has the allocator keep what the next answer needs again.
pub fn keep() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in KEPT {
        // SAFETY: it sets a number of the allocator, under its own lock.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// What the host held for a guest is no more, so many bytes of it.
pub fn freed(bytes: usize) {
    if bytes == 0 || FREED.fetch_add(bytes, Relaxed) + bytes < GIVE_BACK_AFTER {
        return;
    }
    // Without a runtime the process ends. One at a time: those after it count for the next.
    if let Ok(runtime) = Handle::try_current()
        && !GIVING_BACK.swap(true, Relaxed)
    {
        runtime.spawn_blocking(|| {
            FREED.store(0, Relaxed);
            give_back();
            GIVING_BACK.store(false, Relaxed);
        });
    }
}

fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches nothing but the free memory of the allocator, under its own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
