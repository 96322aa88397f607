//! `[clients]` and `[compile]`: what clients may use of the server, and compilations of the machine.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::read::Table;
use super::settings::{MAX_NODE_MEMORY, MAX_TIMEOUT};

const MAX_CONNECTIONS: usize = 1_000_000;
const MAX_STREAMS: usize = 10_000;
const MAX_HEADERS: usize = 10_000;
/// Less than a browser's own head would refuse everyone.
const MIN_HEAD: u64 = 4 << 10;
const MAX_HEAD: u64 = 1 << 20;
const MIN_URI: u64 = 64;
const MAX_URI: u64 = 64 << 10;
const MAX_RATE: u64 = 1 << 30;
const MIN_COMPILE_MEMORY: u64 = 64 << 20;

/// What clients may use, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct Clients {
    /// Over all listeners. Absent: as many as the process has descriptors for.
    pub max_connections: Option<NonZeroUsize>,
    /// From one IPv4 address, or one /64 of IPv6.
    pub max_connections_per_address: NonZeroUsize,
    /// TLS handshakes under way at a time.
    pub max_handshakes: NonZeroUsize,
    /// Requests at a time on an HTTP/2 connection.
    pub max_streams: NonZeroUsize,
    pub handshake_timeout: Duration,
    /// From a connection's or a head's first byte to the head's last.
    pub head_timeout: Duration,
    /// Between two chunks of a request's body.
    pub body_timeout: Duration,
    /// Bytes a second of a request's body, on average after its first `body_timeout`.
    pub min_body_rate: u64,
    /// How long a client may take nothing of a response.
    pub write_timeout: Duration,
    /// Between a response and the next request.
    pub keep_alive_timeout: Duration,
    /// A connection takes no more requests after this, give or take a tenth.
    pub max_age: Duration,
    /// Bytes of a request's line and headers.
    pub max_head: u64,
    pub max_headers: NonZeroUsize,
    /// Bytes of a request's target.
    pub max_uri: u64,
}

/// What the compilation of one component may use.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Compile {
    /// CPU of all its threads together.
    pub cpu_time: Duration,
    /// From its start to its end.
    pub timeout: Duration,
    /// Bytes.
    pub memory: u64,
}

impl Default for Clients {
    fn default() -> Clients {
        const fn count(n: usize) -> NonZeroUsize {
            NonZeroUsize::new(n).expect("written here, not zero")
        }

        Clients {
            max_connections: None,
            max_connections_per_address: const { count(256) },
            max_handshakes: const { count(256) },
            max_streams: const { count(128) },
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            min_body_rate: 512,
            write_timeout: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(60),
            max_age: Duration::from_secs(3600),
            max_head: 32 << 10,
            max_headers: const { count(100) },
            max_uri: 8 << 10,
        }
    }
}

impl Default for Compile {
    fn default() -> Compile {
        Compile {
            cpu_time: Duration::from_secs(120),
            timeout: Duration::from_secs(300),
            memory: 2 << 30,
        }
    }
}

/// Reads `[clients]`.
pub(super) fn clients(table: &mut Table<'_>) -> Clients {
    let base = Clients::default();
    let max_connections = table.take("max_connections", |value| value.count(MAX_CONNECTIONS));
    let mut count = |key, most, base| table.take(key, |value| value.count(most)).unwrap_or(base);
    let max_connections_per_address =
        count("max_connections_per_address", MAX_CONNECTIONS, base.max_connections_per_address);
    let max_handshakes = count("max_handshakes", MAX_CONNECTIONS, base.max_handshakes);
    let max_streams = count("max_streams", MAX_STREAMS, base.max_streams);
    let max_headers = count("max_headers", MAX_HEADERS, base.max_headers);

    let mut timeout =
        |key, base| table.take(key, |value| value.duration(MAX_TIMEOUT)).unwrap_or(base);
    let handshake_timeout = timeout("handshake_timeout", base.handshake_timeout);
    let head_timeout = timeout("head_timeout", base.head_timeout);
    let body_timeout = timeout("body_timeout", base.body_timeout);
    let write_timeout = timeout("write_timeout", base.write_timeout);
    let keep_alive_timeout = timeout("keep_alive_timeout", base.keep_alive_timeout);
    let max_age = timeout("max_age", base.max_age);

    let mut size =
        |key, least, most, base| table.take(key, |value| value.size(least, most)).unwrap_or(base);
    Clients {
        max_connections,
        max_connections_per_address,
        max_handshakes,
        max_streams,
        handshake_timeout,
        head_timeout,
        body_timeout,
        min_body_rate: size("min_body_rate", 0, MAX_RATE, base.min_body_rate),
        write_timeout,
        keep_alive_timeout,
        max_age,
        max_head: size("max_head", MIN_HEAD, MAX_HEAD, base.max_head),
        max_headers,
        max_uri: size("max_uri", MIN_URI, MAX_URI, base.max_uri),
    }
}

/// Reads `[compile]`.
pub(super) fn compile(table: &mut Table<'_>) -> Compile {
    let base = Compile::default();
    let mut timeout =
        |key, base| table.take(key, |value| value.duration(MAX_TIMEOUT)).unwrap_or(base);
    let cpu_time = timeout("cpu_time", base.cpu_time);
    let timeout = timeout("timeout", base.timeout);
    let memory = table.take("memory", |value| value.size(MIN_COMPILE_MEMORY, MAX_NODE_MEMORY));
    Compile { cpu_time, timeout, memory: memory.unwrap_or(base.memory) }
}
