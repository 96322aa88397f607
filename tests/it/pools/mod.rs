//! The pool's promises, each by name, for p2 and for p3.

/// Makes a test of each function for either kit: `pools::timeouts::p2::NAME` and `...::p3::NAME`.
macro_rules! for_both_kits {
    ($($name:ident,)+) => {
        mod p2 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name("kit-p2").await;
            })+
        }
        mod p3 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name("kit-p3").await;
            })+
        }
    };
}

mod bodies;
mod failures;
mod lifetimes;
mod permits;
mod queue;
mod stress;
mod timeouts;
