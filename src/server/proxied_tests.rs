use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::*;

const AFTER: &[u8] = b"GET / HTTP/1.1\r\n";

/// v2 of this command, family and length, with these bytes after them.
fn v2(command: u8, family: u8, length: u16, payload: &[u8]) -> Vec<u8> {
    [v2::PROTOCOL_PREFIX, &[command, family], &length.to_be_bytes(), payload].concat()
}

/// The addresses of a client at 192.0.2.1.
const IPV4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80];

/// What comes of a header that is sent in pieces of `size` bytes, and that all after it is left.
async fn read_in_pieces(header: &[u8], size: usize) -> Result<Option<IpAddr>, Fault> {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut socket = Socket::Unix(ours);
    let bytes = [header, AFTER].concat();
    let sent = async move {
        for piece in bytes.chunks(size) {
            theirs.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let (read, ()) = tokio::join!(read_header(&mut socket), sent);
    if read.is_ok() {
        let mut left = Vec::new();
        socket.read_to_end(&mut left).await.unwrap();
        assert_eq!(left, AFTER);
    }
    read
}

async fn read(header: &[u8]) -> Result<Option<IpAddr>, Fault> {
    read_in_pieces(header, usize::MAX).await
}

#[tokio::test]
async fn either_version_tells_the_client_however_it_is_cut() {
    let ipv6 = [[0x20; 32].as_slice(), &[0, 1, 0, 2]].concat();
    let unix = [b'/'; 216];
    // NOOP, 5 bytes.
    let with_more = [IPV4.as_slice(), &[4, 0, 5], b"extra"].concat();
    let headers: &[(&[u8], Option<&str>)] = &[
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\n", Some("192.0.2.1")),
        (b"PROXY TCP6 2001:db8::1 ::1 4660 80\r\n", Some("2001:db8::1")),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", None),
        (&v2(0x21, 0x11, 12, &IPV4), Some("192.0.2.1")),
        (&v2(0x21, 0x11, 20, &with_more), Some("192.0.2.1")),
        (&v2(0x21, 0x21, 36, &ipv6), Some("2020:2020:2020:2020:2020:2020:2020:2020")),
        (&v2(0x21, 0x31, 216, &unix), None),
        (&v2(0x21, 0x00, 0, &[]), None),
        (&v2(0x20, 0x00, 0, &[]), None),
        (&v2(0x20, 0x11, 12, &IPV4), None),
        (&v2(0x21, 0x11, 4080, &[IPV4.as_slice(), &[0; 4068]].concat()), Some("192.0.2.1")),
    ];
    for (header, client) in headers {
        let client = client.map(|client| client.parse().unwrap());
        for size in [usize::MAX, 1, 2, 7, 16, 53] {
            let read = read_in_pieces(header, size).await;
            assert_eq!(read.unwrap(), client, "{} in {size}", header.escape_ascii());
        }
    }
}

#[tokio::test]
async fn anything_else_is_refused() {
    let headers: &[(&[u8], &str)] = &[
        (b"GET / HTTP/1.1\r\n", "no PROXY header"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00", "no PROXY header"),
        (b"proxy TCP4 192.0.2.1 10.0.0.1 4660 80\r\n", "no PROXY header"),
        (b"PROXYTCP4 192.0.2.1 10.0.0.1 4660 80\r\n", "wrong"),
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\n", "wrong"),
        (b"PROXY TCP4 192.0.2.256 10.0.0.1 4660 80\r\n", "wrong"),
        (b"PROXY TCP4 2001:db8::1 ::1 4660 80\r\n", "wrong"),
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 99999 80\r\n", "wrong"),
        (b"PROXY TCP4 192.0.2.1\r\n", "wrong"),
        (b"PROXY UDP4 192.0.2.1 10.0.0.1 4660 80\r\n", "wrong"),
        (b"PROXY \xff\xfe\xfd\xfc\xfb\xfa\r\n", "wrong"),
        (&[b"PROXY TCP4 ".as_slice(), &[b'1'; 200], b"\r\n"].concat(), "wrong"),
        (&v2(0x31, 0x11, 12, &IPV4), "wrong"),
        (&v2(0x22, 0x11, 12, &IPV4), "wrong"),
        (&v2(0x21, 0x51, 12, &IPV4), "wrong"),
        (&v2(0x21, 0x11, 4, &IPV4[..4]), "wrong"),
        (&v2(0x21, 0x12, 12, &IPV4), "datagrams"),
        (&v2(0x21, 0x11, 4081, &IPV4), "more than 4096 bytes"),
        (&v2(0x21, 0x11, u16::MAX, &IPV4), "more than 4096 bytes"),
    ];
    for (header, why) in headers {
        let fault = read(header).await.unwrap_err().to_string();
        assert!(fault.contains(why), "{}: {fault}", header.escape_ascii());
    }
}

#[tokio::test]
async fn half_a_header_is_waited_for_and_its_end_is_an_end() {
    for header in [
        &b"PROXY"[..],
        b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r",
        &v2(0x21, 0x11, 12, &IPV4)[..14],
        &v2(0x21, 0x11, 12, &IPV4[..11]),
        b"",
    ] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(header).await.unwrap();
        let mut socket = Socket::Unix(ours);
        let mut reading = std::pin::pin!(read_header(&mut socket));
        let waited = timeout(Duration::from_millis(20), &mut reading).await;
        assert!(waited.is_err(), "{}", header.escape_ascii());
        drop(theirs);
        assert!(matches!(reading.await, Err(Fault::Lost(_))), "{}", header.escape_ascii());
    }
}
