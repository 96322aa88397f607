//! Whom a connection is from, and the manifest's lists of proxies that are believed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};

use super::read::{Table, Value, quoted};

/// More networks than this are looked through for each connection.
const MAX_PEERS: usize = 256;

/// What stands in a list for whoever connects to a Unix socket.
const UNIX: &str = "unix";

/// Whom a connection, or a request, is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// In its own form: an IPv4 address is not one of IPv6.
    Ip(IpAddr),
    /// A process on this machine, at a Unix socket: it has no address.
    Unix,
}

/// Which peers are meant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Peers {
    networks: Vec<IpNet>,
    unix: bool,
}

/// The proxies in front of us, and what of what they say is believed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proxies {
    /// Each of their connections begins with a PROXY protocol header.
    pub announcing: Peers,
    /// Each of their requests says in a header whom it is from.
    pub trusted: Peers,
    pub header: ForwardedHeader,
}

/// The header in which trusted proxies say whom a request is from.
///
/// One of the two: most proxies write one and pass on the other as the client sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, with `X-Forwarded-Proto`.
    #[default]
    XForwardedFor,
    /// `Forwarded`, of RFC 7239.
    Forwarded,
}

/// One of a list.
enum Entry {
    Network(IpNet),
    Unix,
}

/// Why a text is none.
enum Fault {
    /// An address with bits set that its prefix leaves out.
    Within(IpNet),
    Other,
}

impl Peers {
    pub fn contains(&self, peer: Peer) -> bool {
        match peer {
            Peer::Ip(ip) => self.networks.iter().any(|network| network.contains(&ip)),
            Peer::Unix => self.unix,
        }
    }

    fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Network(network) => self.networks.push(network),
            Entry::Unix => self.unix = true,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }

    /// A network that all clients are in, if one is.
    fn everyone(&self) -> Option<&IpNet> {
        self.networks.iter().find(|network| network.prefix_len() == 0)
    }
}

impl Proxies {
    /// What is likely not meant.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        [("proxy_protocol", &self.announcing), ("trusted_proxies", &self.trusted)]
            .into_iter()
            .filter_map(|(key, peers)| Some((key, peers.everyone()?)))
            .map(|(key, everyone)| {
                format!("server.{key} has {everyone}: all who can connect may say that they have any address")
            })
    }
}

impl From<IpAddr> for Peer {
    fn from(ip: IpAddr) -> Peer {
        // A listener for both kinds shows IPv4 clients in a form of IPv6 that nobody writes.
        Peer::Ip(ip.to_canonical())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Ip(ip) => ip.fmt(f),
            Peer::Unix => f.write_str(UNIX),
        }
    }
}

/// Reads the keys of `[server]` that are about proxies.
pub(super) fn proxies(table: &mut Table<'_>) -> Proxies {
    let announcing = table.take("proxy_protocol", peers).unwrap_or_default();
    let is_absent = !table.has("trusted_proxies");
    let trusted = table.take("trusted_proxies", peers);

    let headers = [
        ("x-forwarded-for", ForwardedHeader::XForwardedFor),
        ("forwarded", ForwardedHeader::Forwarded),
    ];
    let is_unused = is_absent || trusted.as_ref().is_some_and(Peers::is_empty);
    let header = table.take("forwarded_header", |value| match value.one_of(&headers) {
        Some(_) if is_unused => value.reject(
            "no proxy is trusted, so none of their headers is read",
            "add trusted_proxies = [\"10.0.0.0/8\"], or leave forwarded_header out",
        ),
        header => header,
    });
    Proxies { announcing, trusted: trusted.unwrap_or_default(), header: header.unwrap_or_default() }
}

fn peers(value: &Value<'_>) -> Option<Peers> {
    let example = quoted(value.text().unwrap_or("10.0.0.0/8"));
    let items = value
        .as_list("a list of networks such as [\"10.0.0.0/8\"]", &format!("write [{example}]"))?;
    if items.len() > MAX_PEERS {
        return value.reject(
            format!("expected at most {MAX_PEERS} networks, found {}", items.len()),
            "write fewer and larger ones",
        );
    }
    let (mut peers, mut all_good) = (Peers::default(), true);
    for item in &items {
        match item.text().map_or(Err(Fault::Other), parse) {
            Ok(entry) => peers.add(entry),
            Err(fault) => {
                all_good = false;
                refuse(item, fault);
            }
        }
    }
    all_good.then_some(peers)
}

fn refuse(item: &Value<'_>, fault: Fault) -> Option<()> {
    match fault {
        Fault::Within(network) => item.reject(
            format!("{} is an address within a network, not a network", item.found()),
            format!("write \"{}\", or the address alone", network.trunc()),
        ),
        Fault::Other => {
            let text = item.text().unwrap_or_default();
            let meant = match text.parse::<SocketAddr>() {
                Ok(address) => address.ip().to_string(),
                Err(_) if text.eq_ignore_ascii_case(UNIX) => UNIX.to_owned(),
                Err(_) => "10.0.0.0/8".to_owned(),
            };
            item.expected(
                "an IP address, a network such as \"10.0.0.0/8\", or \"unix\"",
                format!("write {}", quoted(&meant)),
            )
        }
    }
}

fn parse(text: &str) -> Result<Entry, Fault> {
    if text == UNIX {
        return Ok(Entry::Unix);
    }
    let network = match text.parse::<IpNet>() {
        Ok(network) => network,
        Err(_) => IpNet::from(text.parse::<IpAddr>().map_err(|_| Fault::Other)?),
    };
    if network.trunc() != network {
        return Err(Fault::Within(network));
    }
    Ok(Entry::Network(canonical(network)))
}

/// A network of IPv4 addresses in their IPv6 form as one of IPv4, as their peers are.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED_PREFIX: u8 = 96;

    let mapped = || {
        let IpNet::V6(network) = network else { return None };
        let prefix = network.prefix_len().checked_sub(MAPPED_PREFIX)?;
        Ipv4Net::new(network.addr().to_ipv4_mapped()?, prefix).ok()
    };
    mapped().map_or(network, IpNet::V4)
}

/// A list as tests and fuzzers write it, with spaces.
#[cfg(any(fuzzing, test))]
impl From<&str> for Peers {
    fn from(entries: &str) -> Peers {
        let mut peers = Peers::default();
        entries.split_whitespace().for_each(|entry| match parse(entry) {
            Ok(entry) => peers.add(entry),
            Err(_) => panic!("{entry} is no network"),
        });
        peers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(ip: &str) -> Peer {
        Peer::from(ip.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn networks_have_their_addresses_and_no_others() {
        let peers = Peers::from("10.0.0.0/8 192.0.2.7 2001:db8::/32 ::1");
        for ip in ["10.0.0.0", "10.255.255.255", "192.0.2.7", "2001:db8:1::1", "::1"] {
            assert!(peers.contains(peer(ip)), "{ip}");
        }
        for ip in ["11.0.0.0", "9.255.255.255", "192.0.2.8", "2001:db9::1", "::2", "0.0.0.1"] {
            assert!(!peers.contains(peer(ip)), "{ip}");
        }
        assert!(!peers.contains(Peer::Unix));
        assert!(Peers::from("unix").contains(Peer::Unix));
    }

    #[test]
    fn an_ipv4_address_is_the_same_in_its_ipv6_form() {
        assert_eq!(peer("::ffff:10.1.2.3"), peer("10.1.2.3"));
        assert!(Peers::from("10.0.0.0/8").contains(peer("::ffff:10.1.2.3")));
        for network in ["::ffff:10.0.0.0/104", "::ffff:10.1.2.3"] {
            assert!(Peers::from(network).contains(peer("10.1.2.3")), "{network}");
        }
        assert!(!Peers::from("::/0").contains(peer("10.1.2.3")), "all of IPv6 is not IPv4");
    }

    #[test]
    fn a_list_that_everyone_is_in_is_warned_of() {
        let warned = |announcing: &str, trusted: &str| {
            let (announcing, trusted) = (announcing.into(), trusted.into());
            Proxies { announcing, trusted, ..Proxies::default() }.warnings().count()
        };
        assert_eq!(warned("", ""), 0);
        assert_eq!(warned("10.0.0.0/8 unix", "2001:db8::/32"), 0);
        assert_eq!(warned("0.0.0.0/0", "10.0.0.0/8"), 1);
        assert_eq!(warned("0.0.0.0/0 ::/0", "10.0.0.0/8 ::/0"), 2);
    }

    #[test]
    fn nothing_is_in_an_empty_list() {
        let nobody = Peers::default();
        assert!(!nobody.contains(peer("127.0.0.1")) && !nobody.contains(Peer::Unix));
    }
}
