use std::net::IpAddr;
use std::num::NonZeroUsize;

use tokio::time::{Instant, sleep};

use super::*;
use crate::config::{Peer, Proxies};
use crate::limit::Tally;
use crate::shutdown::Stop;

/// At most `max` connections, `per_address` of them from one address, and `handshakes`.
struct World {
    caps: Arc<Caps>,
    limits: Clients,
    proxies: Arc<Proxies>,
}

fn world(max: usize, per_address: usize, handshakes: usize) -> World {
    let count = |n| NonZeroUsize::new(n).unwrap();
    let limits = Clients {
        max_connections: Some(count(max)),
        max_connections_per_address: count(per_address),
        max_handshakes: count(handshakes),
        ..Clients::default()
    };
    World { caps: Arc::new(Caps::new()), limits, proxies: Arc::default() }
}

impl World {
    async fn admit(&self, address: &str) -> Result<(Place, Arc<Activity>), Refused> {
        let peer = address.parse().map_or(Peer::Unix, |ip: IpAddr| ip.into());
        let (limits, proxies) = (self.limits.clone(), Arc::clone(&self.proxies));
        let (tally, token) = (Tally::new(None), Stop::default());
        let activity = Arc::new(Activity::new(limits, proxies, peer, tally, token));
        Ok((self.caps.admit(&activity).await?, activity))
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_has_its_share_and_no_more() {
    let world = world(100, 2, 100);
    let first = world.admit("192.0.2.1").await.unwrap();
    // The same, as a listener for both kinds sees it.
    let _second = world.admit("::ffff:192.0.2.1").await.unwrap();

    assert!(world.admit("192.0.2.1").await.is_err());
    assert!(world.admit("192.0.2.2").await.is_ok());

    drop(first);
    assert!(world.admit("192.0.2.1").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_addresses_of_one_network_of_ipv6_are_one() {
    let world = world(100, 1, 100);
    let _first = world.admit("2001:db8:0:1::1").await.unwrap();

    assert!(world.admit("2001:db8:0:1:ffff::2").await.is_err());
    assert!(world.admit("2001:db8:0:2::1").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_of_those_who_left() {
    let world = world(100, 10, 100);
    for number in 0..1000 {
        let (place, _) =
            world.admit(&format!("10.0.{}.{}", number / 250, number % 250)).await.unwrap();
        drop(place.handshake().unwrap());
    }
    let open = world.caps.open();
    assert!(open.connections.is_empty() && open.networks.is_empty() && open.handshakes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_longest_at_rest_makes_room() {
    let world = world(3, 10, 10);
    let (_busy, at_work) = world.admit("192.0.2.1").await.unwrap();
    let _running = at_work.begin();
    let (place, oldest) = world.admit("192.0.2.1").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let (_newer, newer) = world.admit("192.0.2.1").await.unwrap();
    // What its connection's task does.
    let leaves = Arc::clone(&oldest);
    tokio::spawn(async move {
        leaves.stop().cancelled().await;
        drop(place);
    });

    assert!(world.admit("192.0.2.2").await.is_ok());

    assert!(oldest.is_dismissed());
    assert!(!newer.is_dismissed() && !newer.stop().is_cancelled());
    assert!(!at_work.stop().is_cancelled(), "a request that runs is not cut short");
}

#[tokio::test(start_paused = true)]
async fn who_finds_all_at_work_waits_for_the_first_that_leaves() {
    let world = world(1, 10, 10);
    let (place, activity) = world.admit("192.0.2.1").await.unwrap();
    let running = activity.begin();
    tokio::spawn(async move {
        sleep(Duration::from_secs(5)).await;
        drop((running, place));
    });
    let begun = Instant::now();

    assert!(world.admit("192.0.2.2").await.is_ok());

    assert_eq!(begun.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn of_handshakes_whoever_has_the_most_gives_way() {
    let world = world(100, 100, 4);
    let mut many = vec![];
    for _ in 0..4 {
        many.push(world.admit("192.0.2.1").await.unwrap());
    }
    let shaking: Vec<_> = many.iter().map(|(place, _)| place.handshake().unwrap()).collect();
    let (fifth, _) = world.admit("192.0.2.1").await.unwrap();
    assert!(fifth.handshake().is_err(), "its own network has the most");

    let (other, _) = world.admit("192.0.2.2").await.unwrap();
    let _handshake = other.handshake().unwrap();

    let told = |(_, activity): &&(Place, Arc<Activity>)| activity.stop().is_cancelled();
    assert_eq!(many.iter().filter(told).count(), 1);
    assert!(told(&&many[0]), "the oldest of them");
    // The end of one that was told counts once.
    drop(shaking);
    assert_eq!(world.caps.open().handshakes.len(), 1);
}

/// A world whose proxies are at 10.0.0.0/8 and at Unix sockets; those in 10.1.0.0/16 announce.
fn behind_proxies(per_address: usize) -> World {
    let proxies = Proxies {
        announcing: "10.1.0.0/16".into(),
        trusted: "10.2.0.0/16".into(),
        ..Proxies::default()
    };
    World { proxies: Arc::new(proxies), ..world(100, per_address, 100) }
}

#[tokio::test(start_paused = true)]
async fn proxies_and_those_without_an_address_have_no_share() {
    let world = behind_proxies(1);
    let mut places = vec![];
    for peer in ["10.1.0.1", "10.2.0.1", "unix"] {
        for _ in 0..10 {
            places.push(world.admit(peer).await.unwrap());
        }
    }
    let _other = world.admit("10.3.0.1").await.unwrap();
    assert!(world.admit("10.3.0.1").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn whoever_is_announced_has_a_share_of_their_own() {
    let world = behind_proxies(2);
    let announced = async |client: &str| {
        let (place, activity) = world.admit("10.1.0.1").await.unwrap();
        activity.announce(client.parse().unwrap());
        place.recount(&activity).map(|()| place)
    };
    let first = announced("192.0.2.1").await.unwrap();
    let _second = announced("::ffff:192.0.2.1").await.unwrap();
    assert_eq!(announced("192.0.2.1").await.err(), Some(Refused));
    assert!(world.admit("192.0.2.1").await.is_err(), "whichever way they come");
    let _others = [announced("192.0.2.2").await.unwrap(), announced("192.0.2.2").await.unwrap()];

    drop(first);
    let _again = announced("192.0.2.1").await.unwrap();
    // A proxy behind which there are many, before the one that announces.
    let mut many = vec![];
    for _ in 0..10 {
        many.push(announced("10.2.0.7").await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_of_those_who_were_announced() {
    let world = behind_proxies(1);
    for number in 0..1000_u32 {
        let (place, activity) = world.admit("10.1.0.1").await.unwrap();
        activity.announce(std::net::Ipv4Addr::from(number * 7919 + 1).into());
        let _ = place.recount(&activity);
    }
    let open = world.caps.open();
    assert!(open.connections.is_empty() && open.networks.is_empty());
}
