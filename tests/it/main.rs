//! The integration tests: one binary, a module per behaviour.

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

mod acme;
mod admin;
mod behind;
mod bodies;
mod browser;
mod cache;
mod changes;
mod clients;
mod compile;
mod components;
mod connections;
mod containerfile;
mod crashes;
mod dashboard;
mod duties;
mod faults;
mod http;
mod http3;
mod logs;
mod manifests;
mod metrics;
mod model;
mod ocsp;
mod outbound;
mod policy;
mod pools;
mod process;
mod profiles;
mod reload;
mod renewal;
mod routing;
mod samples;
mod soak;
mod support;
mod systemd;
mod tenants;
mod tls;
mod traces;
mod upgrade;
mod wit;
