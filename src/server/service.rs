//! One request: whom it is for, what they answer, and what is said when they do not.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tracing::warn;

use super::access::Record;
use super::body::{Body, Upload};
use super::connection::Client;
use super::request::{Named, judge, named, prepare, strip_answer};
use super::response::Refusal;
use super::sizes::{Allowance, TooLarge, judge_head};
use crate::generation::{Generation, Route};
use crate::limit::Limit;
use crate::pool::{self, Answer, Failure};
use crate::request_id::RequestId;

/// How long a request waits for guests that work for streams its client has reset.
const ROOM_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers one request. A failure is a page like any other answer, so there is no error.
pub async fn respond(
    client: Arc<Client>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let running = client.activity.begin();
    let id = RequestId::next();
    // Once: what a reload changes is for the next request.
    let generation = client.current.load();
    let mut record = Record::begin(&request, id, &client, generation.number);
    let accept = request.headers().get(ACCEPT).cloned();
    let version = request.version();
    let http2 = version == Version::HTTP_2;
    let is_head = request.method() == Method::HEAD;

    let mut response = match ask(&client, &generation, id, request, record.as_deref_mut()).await {
        Ok((answer, allowance)) => {
            let (mut head, body) = answer.http.into_parts();
            strip_answer(&mut head.headers);
            if let Some(record) = &mut record {
                record.instance = Some(answer.instance);
                record.answered(head.status, length(&head.headers, &body));
            }
            Response::from_parts(
                head,
                Body::guest(body, allowance, id, record, running, generation),
            )
        }
        Err(refusal) => {
            let (head, page) = refusal.page(accept.as_ref(), id, http2).into_parts();
            if let Some(record) = &mut record {
                record.answered(head.status, Some(page.len() as u64));
            }
            Response::from_parts(head, Body::page(page, id, record, running, generation))
        }
    };
    if version < Version::HTTP_11 {
        response.body_mut().end_with_connection();
    }
    if http2 {
        leave_out_content(&mut response, is_head);
    } else if client.activity.is_old() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// What hyper does on HTTP/1 only: answers to HEAD, and some others, have no body.
fn leave_out_content(response: &mut Response<Body>, is_head: bool) {
    let never = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if !is_head && !never {
        return;
    }
    if let Some(length) = response.body().size_hint().exact()
        && is_head
        && !never
        && !response.headers().contains_key(CONTENT_LENGTH)
    {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    response.body_mut().leave_out();
}

/// What an answer says or shows to be its body's length.
fn length(headers: &HeaderMap, body: &pool::Body) -> Option<u64> {
    let declared = headers.get(CONTENT_LENGTH);
    declared.and_then(|length| length.to_str().ok()?.parse().ok()).or(body.size_hint().exact())
}

/// Whether an answer is known to be longer than answers may be, before any of it is sent.
fn is_longer(answer: &Answer, max: u64) -> bool {
    length(answer.http.headers(), answer.http.body()).is_some_and(|length| length > max)
}

/// What a request of an HTTP/2 client holds while a guest works for it.
///
/// A stream that the client resets makes room for another one at once, but its
/// guest goes on for a while: without this a client could have any number of
/// guests at work.
async fn enter(client: &Client) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
    let Some(room) = &client.room else { return Ok(None) };
    if let Ok(permit) = Arc::clone(room).try_acquire_owned() {
        return Ok(Some(permit));
    }
    client.activity.reached(Limit::H2Abandoned);
    match timeout(ROOM_TIMEOUT, Arc::clone(room).acquire_owned()).await {
        Ok(Ok(permit)) => Ok(Some(permit)),
        Ok(Err(_)) | Err(_) => Err(Refusal::Pool(Failure::Busy { retry_after: ROOM_TIMEOUT })),
    }
}

/// Finds the app and asks it.
async fn ask(
    client: &Client,
    generation: &Generation,
    id: RequestId,
    request: Request<Incoming>,
    mut record: Option<&mut Record>,
) -> Result<(Answer, Allowance), Refusal> {
    let (mut head, body) = request.into_parts();
    let http2 = head.version == Version::HTTP_2;
    let body = Upload::new(body, http2, &client.activity);
    judge_head(&head, &generation.config.clients).map_err(|(refusal, limit)| {
        client.activity.reached(limit);
        refusal
    })?;
    judge(&head)?;
    let Named { authority, host } = named(&head, client.scheme, http2)?;

    let app = match generation.route(&host, head.uri.path()) {
        Route::App(app) => Ok(app),
        Route::UnknownHost => Err(Refusal::UnknownHost),
        Route::UnknownPath => Err(Refusal::UnknownPath),
    };
    // A browser that finds two hosts in one certificate sends both over one connection, and is right.
    // A client without SNI has named no host that could be another one.
    let misdirected = !matches!(app, Err(Refusal::UnknownHost))
        && client.named.as_ref().is_some_and(|named| !generation.certificates.share(named, &host));
    if let Some(record) = &mut record {
        record.host = Some(host);
        record.app = app.as_ref().ok().map(|app| app.name.clone());
    }
    if misdirected {
        return Err(Refusal::Misdirected);
    }

    let app = app?;
    let pool = app.pool.as_ref().ok_or(Refusal::NotLoaded)?;
    let (tally, limits) = (pool.tally(), pool.limits());
    let too_large = || {
        tally.reached(Limit::MaxRequestBody, client.activity.client());
        Refusal::Pool(Failure::TooLarge)
    };
    let (body, overflow) =
        body.into_guest(limits.max_request_body).map_err(|TooLarge| too_large())?;
    let is_head = head.method == Method::HEAD;
    prepare(&mut head, authority, client.scheme, &client.address, id)?;
    let permit = enter(client).await?;
    let http = Request::from_parts(head, body);
    let request = pool::Request { id, http, permit, crowded: client.is_crowded() };
    let handled = match &overflow {
        None => pool.handle(request).await,
        // Whatever the guest makes of it, what the client did wrong is the better answer.
        Some(overflow) => tokio::select! {
            biased;
            handled = pool.handle(request) => handled,
            () = overflow.happened() => Err(Failure::TooLarge),
        },
    };
    if overflow.as_ref().is_some_and(|overflow| overflow.is_over()) {
        return Err(too_large());
    }
    match handled {
        Ok(answer) if !is_head && is_longer(&answer, limits.max_response_body) => {
            tally.reached(Limit::MaxResponseBody, client.activity.client());
            Err(Refusal::BadAnswer)
        }
        // A guest's 1xx would be taken for the answer by hyper, and 101 for a tunnel by the client.
        Ok(answer) if answer.http.status().is_informational() => {
            if answer.tally.may_warn() {
                warn!(request = %id, app = app.name.as_str(), status = answer.http.status().as_u16(), "guest answered with an interim status");
            }
            Err(Refusal::BadAnswer)
        }
        Ok(answer) => {
            let tally = Arc::clone(&answer.tally);
            Ok((answer, Allowance::new(limits.max_response_body, overflow, tally)))
        }
        Err(failure) => {
            // A client is not told why, so the log is. A busy app would fill it, and has its access lines.
            if let Failure::Guest(reason) = &failure
                && pool.tally().may_warn()
            {
                warn!(request = %id, app = app.name.as_str(), reason, "guest failed");
            }
            Err(Refusal::Pool(failure))
        }
    }
}
