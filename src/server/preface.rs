//! Which protocol a connection without TLS speaks, told by its first bytes.

use std::io;
use std::time::Duration;

use tokio::time::sleep;

use super::socket::Socket;

/// How HTTP/2 begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// As much of it as tells it from every HTTP/1 request.
const TOLD: usize = 4;

/// How long to wait for the rest of those bytes at first, and at the most.
const PAUSE: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(320);

/// Looks at the first bytes of a connection, and leaves them there.
pub async fn is_http2(socket: &Socket) -> io::Result<bool> {
    let mut seen = [0; TOLD];
    let mut pause = PAUSE;
    loop {
        let count = socket.peek(&mut seen).await?;
        let begun = count > 0 && PREFACE.starts_with(&seen[..count]);
        if !begun || count == TOLD {
            return Ok(begun);
        }
        // What was peeked at is still there, so waiting for the socket would not wait. Who sends
        // the first bytes and no more is looked at ever more seldom.
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
