//! The heap that guests made the host fill, given back to the system once it is free again.
//!
//! glibc keeps what is freed for the next who allocates, hundreds of MiB of it after a guest
//! has made the host hold much in small pieces. That is counted as free, so the next guest's
//! memory would come on top of it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use tokio::runtime::Handle;

/// Bytes that are freed before they are given back: it takes some milliseconds.
const GIVE_BACK_AFTER: usize = 32 << 20;

static FREED: AtomicUsize = AtomicUsize::new(0);
static GIVING_BACK: AtomicBool = AtomicBool::new(false);

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
