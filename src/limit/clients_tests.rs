use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::advance;

use super::{ClientBuckets, NETWORKS_MAX, Rate};

const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

fn rate(requests: usize, per: u64, burst: usize) -> Rate {
    let count = |n| NonZeroUsize::new(n).unwrap();
    Rate::new(count(requests), Duration::from_secs(per), count(burst))
}

fn taken(buckets: &ClientBuckets, client: IpAddr, rate: Rate) -> usize {
    (0..100_000).take_while(|_| buckets.take(client, rate).wait.is_none()).count()
}

#[tokio::test(start_paused = true)]
async fn a_client_has_its_burst_and_then_its_rate_whatever_others_do() {
    let (buckets, rate) = (ClientBuckets::new(), rate(60, 60, 20));
    assert_eq!(taken(&buckets, ONE, rate), 20);
    assert_eq!(buckets.take(ONE, rate).wait, Some(Duration::from_secs(1)));
    assert_eq!(taken(&buckets, OTHER, rate), 20);

    advance(Duration::from_millis(999)).await;
    assert_eq!(taken(&buckets, ONE, rate), 0);
    assert_eq!(buckets.wait(ONE, rate), Some(Duration::from_millis(1)));
    advance(Duration::from_millis(1)).await;
    assert_eq!(buckets.wait(ONE, rate), None);
    assert_eq!(taken(&buckets, ONE, rate), 1);
    advance(Duration::from_secs(3600)).await;
    assert_eq!(taken(&buckets, ONE, rate), 20);
}

#[tokio::test(start_paused = true)]
async fn another_rate_holds_at_once() {
    let (buckets, slow, fast) = (ClientBuckets::new(), rate(2, 86_400, 2), rate(10, 1, 5));
    assert_eq!(taken(&buckets, ONE, slow), 2);
    assert_eq!(buckets.take(ONE, fast).wait, Some(Duration::from_millis(100)));
    advance(Duration::from_millis(100)).await;
    assert_eq!(taken(&buckets, ONE, fast), 1, "and not after a day");
    advance(Duration::from_secs(1)).await;
    assert_eq!(taken(&buckets, ONE, fast), 5);
    assert_eq!(taken(&buckets, ONE, slow), 1, "what was taken by the other rate counts as that");
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_can_be_taken_again() {
    let (buckets, rate) = (ClientBuckets::new(), rate(1, 60, 3));
    assert_eq!(taken(&buckets, ONE, rate), 3);
    buckets.give_back(ONE, rate);
    buckets.give_back(OTHER, rate);
    assert_eq!(taken(&buckets, ONE, rate), 1);
    assert_eq!(taken(&buckets, OTHER, rate), 3, "no more than all of it");
}

#[tokio::test(start_paused = true)]
async fn an_ipv6_client_is_its_64_and_an_ipv4_one_its_address_in_either_form() {
    let (buckets, rate) = (ClientBuckets::new(), rate(1, 60, 1));
    let take = |client: &str| buckets.take(client.parse().unwrap(), rate).wait.is_none();
    assert!(take("2001:db8:0:1::1"));
    assert!(!take("2001:db8:0:1:ffff::2"));
    assert!(take("2001:db8:0:2::1"));
    assert!(take("192.0.2.7"));
    assert!(!take("::ffff:192.0.2.7"));
}

#[tokio::test(start_paused = true)]
async fn many_newcomers_do_not_free_those_who_came_most() {
    let (buckets, rate) = (ClientBuckets::new(), rate(60, 60, 60));
    assert_eq!(taken(&buckets, ONE, rate), 60);
    let mut forgotten = 0;
    for n in 0..100_000_u32 {
        forgotten += buckets.take(IpAddr::from((n + 0x0a00_0000).to_be_bytes()), rate).forgotten;
        assert!(buckets.lock().len() <= NETWORKS_MAX);
    }
    assert!(forgotten > 80_000, "{forgotten}");
    assert!(buckets.take(ONE, rate).wait.is_some());

    advance(Duration::from_secs(3600)).await;
    assert_eq!(buckets.take(OTHER, rate).forgotten, 0, "who is away for long is not missed");
}

proptest! {
    /// In no stretch of time does a client get more than its burst and what its rate has brought.
    #[test]
    fn no_client_gets_more_than_its_rate(
        requests in 1_usize..50, per in 1_u64..100, burst in 1_usize..50,
        steps in proptest::collection::vec((0_u64..5000, 0_u8..4), 1..200),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (buckets, rate) = (ClientBuckets::new(), rate(requests, per, burst));
            let mut passed = 0_u64;
            let mut got: HashMap<u8, Vec<u64>> = HashMap::new();
            for (wait, client) in steps {
                advance(Duration::from_millis(wait)).await;
                passed += wait;
                let taken = buckets.take(IpAddr::from([192, 0, 2, client]), rate);
                if taken.wait.is_none() {
                    got.entry(client).or_default().push(passed);
                }
            }
            for times in got.values() {
                for (from, since) in times.iter().enumerate() {
                    for (to, until) in times.iter().enumerate().skip(from) {
                        let brought = (until - since) as f64 * requests as f64 / (per as f64 * 1e3);
                        let most = burst as f64 + brought + 1e-6;
                        assert!((to - from + 1) as f64 <= most, "{} in {} ms", to - from + 1, until - since);
                    }
                }
            }
        });
    }
}
