//! Special addresses that are really there, under real names: tried in a network of our own, whose
//! machine has them all. Needs `unshare` and `ip`, and user namespaces or root.

use std::net::SocketAddr;
use std::process::Command;

use crate::support::client::GUESTS;
use crate::support::holds::Shown;
use crate::support::origin::Origin;

use super::{HELLO, fetched, site};

/// Set where the test runs in its own network.
const INSIDE: &str = "TIDEGATE_TEST_NETWORK";

/// Addresses that the machine has there. The last two are ordinary, and refused as its own.
const ADDRESSES: [&str; 21] = [
    "10.0.0.5",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.53",
    "168.63.129.16",
    "169.254.169.254",
    "172.17.0.1",
    "192.0.0.192",
    "192.168.1.1",
    "198.18.0.1",
    "203.0.113.7",
    "::1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::a00:5",
    "2001:0:7f00:1::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "fd00:ec2::254",
    "fec0::1",
    "198.41.0.4",
    "2600:1f18::4",
];

/// Becomes the test binary again, in a network with these addresses and with these names.
const ENTER: &str = r#"
mount --bind "$1" /etc/hosts
ip link set lo up
for address in $2; do ip address add "$address" dev lo nodad 2>/dev/null || ip address add "$address" dev lo; done
exec "$3" --ignored --exact outbound::network::inside
"#;

fn name(number: usize) -> String {
    format!("address-{number}.test")
}

#[test]
fn names_that_lead_to_special_addresses_lead_nowhere() {
    if let Some(reason) = missing() {
        eprintln!("\n!!! NOT TESTED: special addresses in a network of our own: {reason}\n");
        return;
    }

    let dir = tempfile::tempdir().expect("a directory");
    let mut hosts: String = (ADDRESSES.iter().enumerate())
        .map(|(number, address)| format!("{address} {}\n", name(number)))
        .collect();
    hosts += "127.0.0.1 localhost\n198.41.0.4 mapped.test\n::ffff:10.0.0.5 mapped.test\n";
    let hosts_path = dir.path().join("hosts");
    std::fs::write(&hosts_path, hosts).expect("write names");

    // These are there without our doing.
    let added = ADDRESSES.into_iter().filter(|address| !["127.0.0.53", "::1"].contains(address));
    let added: Vec<_> = added.collect();
    let output = Command::new("unshare")
        .args(["-rnm", "sh", "-ec", ENTER, "sh"])
        .arg(&hosts_path)
        .arg(added.join(" "))
        .arg(std::env::current_exe().expect("this test"))
        .env(INSIDE, "1")
        .output()
        .expect("run unshare");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Why there can be no such network, if so.
fn missing() -> Option<String> {
    match Command::new("unshare").args(["-rnm", "ip", "address"]).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the test above runs it, in a network of its own"]
async fn inside() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    // Takes connections to every address that the machine has, of both families.
    let any = SocketAddr::from(([0u16; 8], 0));
    let origin = Origin::try_at(any).await.expect("a listener");
    let port = origin.address.port();
    let names: Vec<_> = (0..ADDRESSES.len()).map(name).chain(["mapped.test".into()]).collect();
    let mut origins: Vec<_> = names.iter().map(|name| format!("http://{name}:{port}")).collect();

    let server = site(&origins.iter().map(String::as_str).collect::<Vec<_>>(), "").start();
    for host in GUESTS {
        for url in &origins {
            let refused = fetched(&server, host, url).await;
            assert!(refused.contains("DestinationIpProhibited"), "{host}, {url}: {refused}");
        }
    }
    let connections = origin.connections();
    assert_eq!(connections, 0);
    drop(server);

    // The same addresses, granted: it is the rule that keeps them apart, and not the network.
    let literals = ADDRESSES.into_iter().map(|address| match address.contains(':') {
        true => format!("http://[{address}]:{port}"),
        false => format!("http://{address}:{port}"),
    });
    origins.extend(literals);
    let server = site(&origins.iter().map(String::as_str).collect::<Vec<_>>(), "").start();
    for host in GUESTS {
        for url in &origins {
            assert_eq!(fetched(&server, host, url).await, HELLO, "{host}, {url}");
        }
    }
    assert!(origin.connections() >= GUESTS.len() * ADDRESSES.len());
    Shown {
        part: "Tenants: outbound",
        tried: "names that lead to special addresses which the machine has, and to its own, \
                by p2 and p3 guests",
        times: GUESTS.len() * names.len(),
        bound: "no connection, unless the address is granted",
    }
    .holds(format!("{connections} connections"), true);
}
