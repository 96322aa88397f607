use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Duration, Instant, advance};

use super::*;
use crate::server::paced::Paced;
use crate::server::watched::{Reset, Watched};

impl Reset for DuplexStream {
    fn reset(&self) {}
}

/// Of a connection that was accepted now, with the default limits.
pub fn activity() -> Arc<Activity> {
    let client = Peer::from(IpAddr::from([192, 0, 2, 1]));
    let (tally, stop) = (Tally::new(None), Stop::default());
    Arc::new(Activity::new(Clients::default(), Arc::default(), client, tally, stop))
}

/// The activity of an HTTP/1 connection, its watched socket, and the client's end.
fn connection() -> (Arc<Activity>, Watched<Paced<DuplexStream>>, DuplexStream) {
    let (ours, theirs) = duplex(64);
    let activity = activity();
    activity.reads_are_heads();
    (
        Arc::clone(&activity),
        Watched::new(Paced::new(ours, Arc::clone(&activity)), activity, None),
        theirs,
    )
}

/// What is to be done about the connection, and how long from now. Its age, which all have, is left out.
fn due(activity: &Activity) -> Option<(Due, Duration)> {
    let due = activity.due().map(|(at, due)| (due, at - Instant::now()));
    due.filter(|(due, _)| *due != Due::Age)
}

async fn read(socket: &mut Watched<Paced<DuplexStream>>, client: &mut DuplexStream, bytes: &[u8]) {
    client.write_all(bytes).await.unwrap();
    socket.read_exact(&mut vec![0; bytes.len()]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_first_head_is_due_from_the_connections_start() {
    let (activity, mut socket, mut client) = connection();

    advance(Duration::from_secs(4)).await;
    read(&mut socket, &mut client, b"GET").await;

    assert_eq!(due(&activity), Some((Due::Head, Duration::from_secs(6))));
}

#[tokio::test(start_paused = true)]
async fn no_limit_of_the_connection_ends_a_request_that_runs() {
    let (activity, mut socket, mut client) = connection();

    let running = activity.begin();
    advance(Duration::from_secs(600)).await;
    read(&mut socket, &mut client, b"body").await;

    assert_eq!(due(&activity), None);
    drop(running);
    assert_eq!(due(&activity), Some((Due::Idle, activity.limits.keep_alive_timeout)));
}

#[tokio::test(start_paused = true)]
async fn a_later_head_is_due_from_its_first_byte() {
    let (activity, mut socket, mut client) = connection();
    drop(activity.begin());

    advance(Duration::from_secs(30)).await;
    assert_eq!(due(&activity), Some((Due::Idle, Duration::from_secs(30))));
    read(&mut socket, &mut client, b"G").await;
    advance(Duration::from_secs(3)).await;
    read(&mut socket, &mut client, b"E").await;

    assert_eq!(due(&activity), Some((Due::Head, Duration::from_secs(7))));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_due_whatever_runs() {
    let (activity, mut socket, mut client) = connection();
    let _running = activity.begin();

    let full = futures_util::poll!(std::pin::pin!(socket.write_all(&[0; 100])));
    assert!(full.is_pending());
    assert_eq!(due(&activity), Some((Due::Stall, activity.limits.write_timeout)));

    client.read_exact(&mut [0; 64]).await.unwrap();
    socket.write_all(&[0; 10]).await.unwrap();
    assert_eq!(due(&activity), None);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_nobody_reads_is_taken_in_for_a_moment_after_the_answer() {
    let (activity, mut socket, mut client) = connection();
    let running = activity.begin();
    activity.leave_unread();
    drop(running);

    let mut shutdown = std::pin::pin!(socket.shutdown());
    assert!(futures_util::poll!(shutdown.as_mut()).is_pending());
    assert_eq!(due(&activity), Some((Due::Linger, LINGER_TIMEOUT)));

    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0, "it is told that nothing more comes");
    client.write_all(&[0; 64]).await.unwrap();
    assert!(futures_util::poll!(shutdown.as_mut()).is_pending());
    drop(client);
    shutdown.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_an_unread_upload_is_closed_at_once() {
    let (activity, mut socket, _client) = connection();
    activity.leave_unread();
    drop(activity.begin());

    socket.shutdown().await.unwrap();
}
