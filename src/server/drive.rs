//! Drives a connection to its end, which it comes to by itself, is told to, or meets at a deadline.

use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use tokio::time::{Instant, sleep_until};

use super::activity::{Activity, Due};
use super::body::Body;
use super::connection::Spawn;
use super::proxied::Fault;
use crate::limit::Limit;

/// Why h2 ends a connection when its own limits are reached.
const CALM: h2::Reason = h2::Reason::ENHANCE_YOUR_CALM;

/// Runs a connection until it ends, is told to, or is at a deadline.
pub async fn drive<C: Connection>(connection: C, activity: &Activity) -> Result<(), End> {
    let mut stop = pin!(activity.stop().cancelled());
    let mut connection = pin!(connection);
    let mut timer = pin!(sleep_until(activity.head_due()));
    poll_fn(|cx| {
        loop {
            if !activity.is_closing()
                && stop.as_mut().poll(cx).is_ready()
                && (C::CLOSES_IN_ITS_OWN_TIME || !activity.gives_way())
            {
                activity.close();
                connection.as_mut().close();
            }
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                // hyper is told of an error of the socket, and keeps no more of it than its text.
                return Poll::Ready(match activity.flood() {
                    Some(limit) => Err(End::Flood(limit)),
                    None => ended.map_err(End::Http),
                });
            }
            if activity.is_dismissed() {
                connection.as_mut().close();
                // It says so if that can be done at once. Dropping it closes the socket.
                let _ = connection.as_mut().poll(cx);
                if activity.is_stalled() {
                    activity.abandon();
                }
                return Poll::Ready(Err(End::Dismissed));
            }

            let now = Instant::now();
            let mut look_again = now + activity.look_again();
            if let Some((at, due)) = activity.due() {
                if at > now {
                    look_again = look_again.min(at);
                } else {
                    match due {
                        Due::Age if C::CLOSES_IN_ITS_OWN_TIME => {
                            activity.retire();
                            activity.close();
                            connection.as_mut().close();
                        }
                        Due::Age => activity.retire(),
                        Due::Idle if !activity.is_closing() => {
                            activity.close();
                            connection.as_mut().close();
                        }
                        // Dropping it closes the socket.
                        due => {
                            if due == Due::Stall {
                                activity.abandon();
                            }
                            return Poll::Ready(Err(End::Due(due)));
                        }
                    }
                    continue;
                }
            }
            if look_again < timer.deadline() {
                timer.as_mut().reset(look_again);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // It was set for something that is past.
            timer.as_mut().reset(look_again);
        }
    })
    .await
}

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum End {
    #[error("{0}")]
    Lost(io::Error),
    #[error("handshake failed: {0}")]
    Handshake(io::Error),
    #[error("handshake took too long")]
    HandshakeTimeout,
    #[error("{0}")]
    Http(hyper::Error),
    #[error("{0}")]
    Quic(quinn::ConnectionError),
    #[error("{0}")]
    Http3(h3::error::ConnectionError),
    #[error("deadline: {0:?}")]
    Due(Due),
    #[error("flood: {}", .0.name())]
    Flood(Limit),
    #[error("its place was wanted, or its client was too slow")]
    Dismissed,
    #[error("its proxy sent {0}")]
    Proxied(Fault),
}

impl End {
    /// The limit that was reached, whether we noticed, or hyper or h2, where nobody has counted it yet.
    pub fn limit(&self) -> Option<Limit> {
        match self {
            End::HandshakeTimeout => Some(Limit::HandshakeTimeout),
            End::Due(Due::Head) => Some(Limit::HeadTimeout),
            End::Due(Due::Stall) => Some(Limit::WriteTimeout),
            // An upload counts its own end, and the others are the usual ends of connections.
            End::Due(Due::Idle | Due::Linger | Due::Late | Due::Age) => None,
            End::Flood(limit) => Some(*limit),
            End::Http(error) if error.is_parse_too_large() => Some(Limit::MaxHead),
            End::Http(error) => error
                .source()
                .and_then(|cause| cause.downcast_ref::<h2::Error>())
                .is_some_and(|cause| cause.is_library() && cause.reason() == Some(CALM))
                .then_some(Limit::H2Errors),
            End::Lost(_)
            | End::Handshake(_)
            | End::Proxied(_)
            | End::Quic(_)
            | End::Http3(_)
            | End::Dismissed => None,
        }
    }
}

/// What hyper's two kinds of connection have in common.
pub trait Connection: Future<Output = hyper::Result<()>> {
    /// Whether a close tells the client, and still takes what it had sent before it knew.
    ///
    /// HTTP/1 has no words for it but an answer's.
    const CLOSES_IN_ITS_OWN_TIME: bool;

    /// Takes no more requests, and ends when those that run have their answers.
    fn close(self: Pin<&mut Self>);
}

impl<I, S> Connection for http1::Connection<I, S>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::HttpService<Incoming, ResBody = Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    const CLOSES_IN_ITS_OWN_TIME: bool = false;

    fn close(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S> Connection for http2::Connection<I, S, Spawn>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::HttpService<Incoming, ResBody = Body>,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    const CLOSES_IN_ITS_OWN_TIME: bool = true;

    fn close(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
