//! `[admin]`: where operators ask a running tidegate, and how they show that they may.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::Server;
use super::host::Host;
use super::listen::{ListenAddress, listen_address};
use super::pattern::HostPattern;
use super::problem::Located;
use super::read::{Table, Value, quoted};

/// The socket's name in `state_dir`, where the manifest names no address.
const SOCKET: &str = "admin.sock";

/// Names that the address is known by.
const MAX_NAMES: usize = 16;

/// Where a running tidegate is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Admin {
    /// Nowhere.
    Off,
    /// At a socket that only its user can connect to.
    Unix {
        /// Absolute.
        path: PathBuf,
        /// The manifest names it: not to have it is an error then.
        is_given: bool,
    },
    Tcp(AdminTcp),
}

/// An address, whose clients show a token.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminTcp {
    pub address: SocketAddr,
    /// Absolute; the file that holds the token.
    pub token_file: Located<PathBuf>,
    /// Names that clients may call it by, beside `localhost` and addresses.
    pub names: Vec<Host>,
}

impl Admin {
    /// What nobody else is to read, each with what it is.
    pub(super) fn secrets(&self) -> impl Iterator<Item = (&Path, &'static str)> {
        let secret = match self {
            Admin::Off => None,
            Admin::Unix { path, .. } => Some((path.as_path(), "the admin socket")),
            Admin::Tcp(tcp) => Some((tcp.token_file.value.as_path(), "the admin token")),
        };
        secret.into_iter()
    }

    /// What is likely not meant.
    pub(super) fn warning(&self) -> Option<String> {
        match self {
            Admin::Tcp(tcp) if !tcp.address.ip().is_loopback() => Some(format!(
                "admin.listen is {}, which others on the network may reach: what they send, the token too, is not encrypted",
                tcp.address
            )),
            _ => None,
        }
    }
}

/// Reads `[admin]`.
pub(super) fn admin(table: &mut Table<'_>, server: &Server) -> Admin {
    let asked = table.take("listen", listen);
    let address = match &asked {
        Some(Listen::At(address)) => Some(address.value.clone()),
        _ => None,
    };
    if let Some(Listen::At(address)) = &asked
        && let Some(other) = server.http.iter().chain(&server.https).find(|it| clash(it, address))
    {
        let problem = address.place.problem(format!("clients are served on {other}"));
        table.source.report(problem.with_help("give the operators an address of their own"));
    }

    let Some(ListenAddress::Tcp(address)) = address else {
        for key in ["token_file", "names"] {
            table.take(key, |value| {
                value.reject::<()>(
                    "this is about an address of TCP: a Unix socket is guarded by its file's mode",
                    format!("add listen = \"127.0.0.1:9180\", or leave {key} out"),
                )
            });
        }
        return match (asked, address) {
            (_, Some(ListenAddress::Unix(path))) => Admin::Unix { path, is_given: true },
            (Some(Listen::Nowhere), _) => Admin::Off,
            _ => Admin::Unix { path: server.state_dir.join(SOCKET), is_given: false },
        };
    };
    let example = "secrets/admin.token";
    let token_file =
        table.require("token_file", &quoted(example), |value| value.located_path(example));
    let names = table.take("names", names).unwrap_or_default();
    // What is missing has been reported, and then nothing of this is used.
    token_file.map_or(Admin::Off, |token_file| Admin::Tcp(AdminTcp { address, token_file, names }))
}

enum Listen {
    Nowhere,
    At(Located<ListenAddress>),
}

fn listen(value: &Value<'_>) -> Option<Listen> {
    const WHAT: &str = "a Unix socket such as \"unix:state/admin.sock\", an address such as \"127.0.0.1:9180\", or false";
    let is_meant = |text: &str| text.starts_with("unix:") || text.parse::<SocketAddr>().is_ok();
    match (value.value.as_bool(), value.text()) {
        (Some(false), _) => Some(Listen::Nowhere),
        (_, Some(text)) if is_meant(text) => {
            let address = listen_address(value)?;
            Some(Listen::At(Located { value: address, place: value.place.clone() }))
        }
        (_, Some(text)) if text.starts_with(['/', '.']) => {
            value.expected(WHAT, format!("write {}", quoted(&format!("unix:{text}"))))
        }
        _ => value.expected(WHAT, "write \"127.0.0.1:9180\", or leave it out"),
    }
}

fn names(value: &Value<'_>) -> Option<Vec<Host>> {
    let items = value.as_list("a list of names", "write [\"admin.internal\"]")?;
    if items.len() > MAX_NAMES {
        return value.reject(
            format!("expected at most {MAX_NAMES} names, found {}", items.len()),
            "leave some out",
        );
    }
    let name = |item: &Value<'_>| match HostPattern::parse(item.string("admin.internal")?) {
        Ok(HostPattern::Exact(host)) => Some(host),
        Ok(_) => item.reject("a name here is one host", "write \"admin.internal\""),
        Err(error) => item.reject(error.to_string(), error.help().unwrap_or("write a host name")),
    };
    // All of them are looked at, so that each mistake is told.
    let names: Vec<_> = items.iter().map(name).collect();
    names.into_iter().collect()
}

/// Whether what listens at the one would be in the other's way, or be taken for it.
fn clash(public: &ListenAddress, admin: &Located<ListenAddress>) -> bool {
    match (public, &admin.value) {
        (ListenAddress::Tcp(public), ListenAddress::Tcp(admin)) => {
            let is_any = |address: IpAddr| address.is_unspecified();
            public.port() == admin.port()
                && public.port() != 0
                && (public.ip() == admin.ip() || is_any(public.ip()) || is_any(admin.ip()))
        }
        (public, admin) => public == admin,
    }
}
