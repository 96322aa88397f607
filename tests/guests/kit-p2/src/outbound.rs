//! The route that asks another server.

use common::Target;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{Fields, IncomingResponse, OutgoingRequest, ResponseOutparam, Scheme};

use crate::body::{Reader, Writer, answer_in_full};
use crate::streams::copy;

/// Answers what a GET of `url` answers, or 502 and why it did not.
pub fn fetch(target: &Target, out: ResponseOutparam) {
    let response = match get(target.text("url").unwrap_or_default()) {
        Ok(response) => response,
        Err(reason) => return answer_in_full(out, 502, &[], format!("{reason}\n").as_bytes()),
    };
    let mut reader = Reader::new(response.consume().unwrap());
    let mut writer = Writer::answer(out, response.status(), &[]);
    if copy(&mut reader, &mut writer).is_ok() && reader.trailers().is_ok() {
        writer.finish(None);
    }
}

fn get(url: &str) -> Result<IncomingResponse, String> {
    let (scheme, rest) = url
        .split_once("://")
        .ok_or_else(|| format!("no scheme in {url:?}"))?;
    let path_start = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(path_start);
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };

    let request = OutgoingRequest::new(Fields::new());
    let refused = |()| format!("the host refused {url:?}");
    request.set_scheme(Some(&scheme)).map_err(refused)?;
    request.set_authority(Some(authority)).map_err(refused)?;
    request
        .set_path_with_query(Some(if path.is_empty() { "/" } else { path }))
        .map_err(refused)?;

    let response = outgoing_handler::handle(request, None).map_err(|error| format!("{error:?}"))?;
    response.subscribe().block();
    match response.get() {
        Some(Ok(answer)) => answer.map_err(|error| format!("{error:?}")),
        _ => Err("no answer, though it was said to be ready".to_owned()),
    }
}
