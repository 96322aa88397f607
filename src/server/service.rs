//! One request: whom it is for, what they answer, and what is said when they do not.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ALT_SVC, CONNECTION, CONTENT_LENGTH, HeaderValue, STRICT_TRANSPORT_SECURITY,
};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tracing::warn;

use super::access::Record;
use super::activity::Running;
use super::bind::Scheme;
use super::body::{Arriving, Body, Upload};
use super::challenge;
use super::connection::Client;
use super::duties::{self, After, Next};
use super::files::{self, Content};
use super::forwarded::Sender;
use super::observed::Observed;
use super::policy;
use super::request::{Named, Told, has_streams, judge, named, prepare, strip_answer};
use super::response::Refusal;
use super::sizes::{Allowance, TooLarge, judge_head};
use crate::config::Host;
use crate::generation::{Found, Generation, Route, Target};
use crate::limit::Limit;
use crate::pool::{self, Answer, Failure, Insight};
use crate::request_id::RequestId;
use crate::traces::Trace;

/// How long a request waits for guests that work for streams its client has reset.
const ROOM_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers one request. A failure is a page like any other answer, so there is no error.
pub async fn respond<B: Arriving>(
    client: Arc<Client>,
    request: Request<B>,
) -> Result<Response<Body>, Infallible> {
    let running = client.activity.begin();
    let id = RequestId::next();
    // Once: what a reload changes is for the next request.
    let generation = client.current.load();
    let forwarded = client.forwarded(request.headers(), &generation.config.server.proxies);
    let sender = forwarded.as_ref().unwrap_or(&client.sender);
    let traces = generation.config.traces.as_ref();
    let trace = traces.and_then(|traces| {
        Trace::begin(&client.spans, traces, id, request.headers(), forwarded.is_some())
    });
    let trace = trace.as_ref();
    let (known, number) = (forwarded.as_ref(), generation.number);
    let record = Record::begin(&request, id, &client, known, number, trace);
    let mut observed = Observed::begin(record);
    let accept = request.headers().get(ACCEPT).cloned();
    let version = request.version();
    let streams = has_streams(version);
    let is_head = request.method() == Method::HEAD;

    if let Some(proof) = challenge::answer(&client.challenges, &request) {
        observed.unless_routed(&generation);
        return Ok(whole(Response::new(proof), id, observed, running, generation));
    }
    let mut besides = Besides::default();
    let whose = (id, trace);
    let asked =
        ask(&client, sender, &generation, whose, request, &mut observed, &mut besides).await;
    observed.unless_routed(&generation);
    let Besides { after, hsts } = besides;
    let compression = after.as_ref().and_then(|after| after.compression);
    let mut response = match asked {
        Ok(Answered::Guest(answer, allowance)) => {
            let (mut head, body) = answer.http.into_parts();
            strip_answer(&mut head.headers);
            if let Some(after) = &after {
                after.answered(&mut head.headers);
            }
            if let Some(record) = &mut observed.record {
                record.instance = Some(answer.instance);
            }
            observed.answered(head.status, || length(&head.headers, &body));
            Response::from_parts(
                head,
                Body::guest(body, allowance, id, observed, running, generation),
            )
        }
        Ok(Answered::Own(mut own)) => {
            if let Some(after) = &after {
                after.answered(own.headers_mut());
            }
            whole(own, id, observed, running, generation)
        }
        Ok(Answered::File(mut answer)) => {
            if let Some(after) = &after {
                after.answered(answer.headers_mut());
            }
            let (head, content) = answer.into_parts();
            observed.answered(head.status, || declared(&head.headers));
            Response::from_parts(head, Body::content(content, id, observed, running, generation))
        }
        Err(refusal) => {
            let mut page = refusal.page(accept.as_ref(), id, streams);
            if let Some(after) = &after {
                after.refused(page.headers_mut());
            }
            whole(page, id, observed, running, generation)
        }
    };
    if let Some(hsts) = hsts {
        response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, hsts);
    }
    if let Some(compression) = compression {
        compression.apply(&mut response, sender.peer, &client);
    }
    if version < Version::HTTP_11 {
        response.body_mut().end_with_connection();
    }
    // Behind a proxy our port is not the one that clients know.
    if let (Some(h3), None) = (&client.alt_svc, &forwarded) {
        response.headers_mut().entry(ALT_SVC).or_insert_with(|| h3.clone());
    }
    if streams {
        leave_out_content(&mut response, is_head);
    } else if client.activity.is_old() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// An answer of our own.
fn whole(
    own: Response<Bytes>,
    id: RequestId,
    mut observed: Observed,
    running: Running,
    generation: Arc<Generation>,
) -> Response<Body> {
    let (head, body) = own.into_parts();
    observed.answered(head.status, || Some(body.len() as u64));
    Response::from_parts(head, Body::page(body, id, observed, running, generation))
}

/// What hyper does on HTTP/1 only: answers to HEAD, and some others, have no body.
fn leave_out_content(response: &mut Response<Body>, is_head: bool) {
    let never = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if !is_head && !never {
        return;
    }
    // A guest that answers HEAD without a body has not said that GET has none either.
    if let Some(length) = response.body().size_hint().exact().filter(|length| *length > 0)
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
    declared(headers).or(body.size_hint().exact())
}

fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether an answer is known to be longer than answers may be, before any of it is sent.
fn is_longer(answer: &Answer, max: u64) -> bool {
    length(answer.http.headers(), answer.http.body()).is_some_and(|length| length > max)
}

/// What a request of an HTTP/2 or HTTP/3 client holds while a guest works for it.
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

/// Who made the answer.
enum Answered {
    Guest(Answer, Allowance),
    /// A route's duty, or its target.
    Own(Response<Bytes>),
    /// A folder of files.
    File(Response<Content>),
}

/// What an answer is to have, whoever makes it.
#[derive(Default)]
struct Besides<'a> {
    /// The route's duties that come after it.
    after: Option<After<'a>>,
    /// What the host tells browsers.
    hsts: Option<HeaderValue>,
}

/// Whether the file that `path` means belongs to another route, whose duties an escape would get
/// around: routes are found by the path as it was sent, and files by what it means.
fn is_around_another(generation: &Generation, host: &Host, route: &Route, path: &str) -> bool {
    let Target::Files(_) = &route.target else { return false };
    let paths = host.patterns().find_map(|pattern| generation.config.hosts.get(&pattern));
    paths.is_some_and(|paths| paths.means_nearer(&route.prefix, path))
}

/// Finds the route and asks its target, with the route's duties before it. What goes `besides`
/// is the caller's, whatever the answer is.
async fn ask<'a, B: Arriving>(
    client: &Client,
    sender: &Sender,
    generation: &'a Generation,
    (id, trace): (RequestId, Option<&Arc<Trace>>),
    request: Request<B>,
    observed: &mut Observed,
    besides: &mut Besides<'a>,
) -> Result<Answered, Refusal> {
    let (mut head, body) = request.into_parts();
    let streams = has_streams(head.version);
    let mut body = Upload::new(body, streams, &client.activity, sender.peer);
    judge_head(&head, &generation.config.clients).map_err(|(refusal, limit)| {
        client.activity.tally().reached(limit, sender.peer);
        refusal
    })?;
    judge(&head)?;
    let Named { authority, host } = named(&head, sender.scheme, streams)?;

    let route = match generation.route(&host, head.uri.path()) {
        Found::Route(route) if is_around_another(generation, &host, route, head.uri.path()) => {
            Err(Refusal::UnknownPath)
        }
        Found::Route(route) => Ok(route),
        Found::UnknownHost => Err(Refusal::UnknownHost),
        Found::UnknownPath => Err(Refusal::UnknownPath),
    };
    // A browser that finds two hosts in one certificate sends both over one connection, and is right.
    // A client without SNI has named no host that could be another one.
    let misdirected = !matches!(route, Err(Refusal::UnknownHost))
        && client.named.as_ref().is_some_and(|named| !generation.certificates.share(named, &host));
    let policy = generation.config.policy(&host);
    // Over plain HTTP anyone on the way could have said it.
    besides.hsts = policy.and_then(|it| it.hsts.clone()).filter(|_| sender.scheme == Scheme::Https);
    let admitted = match &route {
        Err(Refusal::UnknownHost) => Ok(None),
        _ => policy::admit(policy, &host, &head.uri, sender, client, generation),
    };
    observed.is_for(host, route.as_ref().ok().copied());
    body.count(|| observed.received());
    if misdirected {
        return Err(Refusal::Misdirected);
    }

    let identity = admitted?;
    let route = route?;
    let mut user = None;
    if let Some(duties) = &route.duties {
        besides.after = Some(After::new(duties, &head.headers));
        match Box::pin(duties::before(duties, sender.peer, client.activity.tally(), &mut head))
            .await?
        {
            Next::Answer(own) => return Ok(Answered::Own(own)),
            Next::Target(name) => user = name,
        }
    }
    let app = match &route.target {
        Target::App(app) => app,
        Target::Redirect(redirect) => {
            return Ok(Answered::Own(duties::redirect(redirect, &route.prefix, &head.uri)?));
        }
        Target::Respond(respond) => return Ok(Answered::Own(duties::respond(respond))),
        Target::Files(folder) => {
            let answer = Box::pin(files::answer(folder, &route.prefix, head, sender.peer, client));
            return answer.await.map(Answered::File);
        }
    };
    let pool = app.pool.as_ref().ok_or_else(|| {
        let shown = generation.shown_fault(app);
        Refusal::NotLoaded(shown.map(|reason| Arc::new(Insight { reason, ..Insight::default() })))
    })?;
    let (tally, limits) = (pool.tally(), pool.limits());
    let too_large = || {
        tally.reached(Limit::MaxRequestBody, sender.peer);
        Refusal::Pool(Failure::TooLarge)
    };
    let (body, overflow) =
        body.into_guest(limits.max_request_body).map_err(|TooLarge| too_large())?;
    let is_head = head.method == Method::HEAD;
    let told = match (&generation.config.traces, trace) {
        (None, _) => Told::AsItCame,
        (Some(_), None) => Told::OfNone,
        (Some(_), Some(trace)) => Told::Of(trace),
    };
    prepare(&mut head, authority, sender, id, told)?;
    if let Some(identity) = identity {
        head.headers.insert(policy::CLIENT_CERT, identity);
    }
    if let Some(duties) = &route.duties {
        duties::hand_over(duties, user, &mut head.headers);
    }
    let permit = enter(client).await?;
    let http = Request::from_parts(head, body);
    if let Some(trace) = trace {
        trace.asked();
    }
    let (trace, crowded) = (trace.cloned(), client.is_crowded());
    let request = pool::Request { id, http, permit, crowded, trace };
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
            tally.reached(Limit::MaxResponseBody, sender.peer);
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
            let allowance = Allowance::new(limits.max_response_body, overflow, tally);
            Ok(Answered::Guest(answer, allowance))
        }
        Err(failure) => {
            // A client is not told why, so the log is. A busy app would fill it, and has its access lines.
            if let Failure::Guest(fault) = &failure
                && pool.tally().may_warn()
            {
                warn!(request = %id, app = app.name.as_str(), reason = %fault, "guest failed");
            }
            Err(Refusal::Pool(failure))
        }
    }
}
