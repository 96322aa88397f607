//! The route that asks another server.

use common::Target;
use wasip3::http::client;
use wasip3::http::types::{Fields, Request, Response, Scheme};
use wasip3::wit_future;

use crate::body::{Answer, Reader, Reply};

/// Answers what a GET of `url` answers, or 502 and why it did not.
pub async fn fetch(target: &Target, reply: Reply) -> Answer {
    let response = match get(target.text("url").unwrap_or_default()).await {
        Ok(response) => response,
        Err(reason) => return reply.full(502, &[], format!("{reason}\n").as_bytes()),
    };
    let status = response.get_status_code();
    let reader = Reader::of_response(response);
    reply.stream(status, &[], async move |writer| {
        reader.copy_to(writer).await
    })
}

async fn get(url: &str) -> Result<Response, String> {
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

    let (_, trailers) = wit_future::new(|| Ok(None));
    let (request, _) = Request::new(Fields::new(), None, trailers, None);
    let refused = |()| format!("the host refused {url:?}");
    request.set_scheme(Some(&scheme)).map_err(refused)?;
    request.set_authority(Some(authority)).map_err(refused)?;
    request
        .set_path_with_query(Some(if path.is_empty() { "/" } else { path }))
        .map_err(refused)?;

    client::send(request)
        .await
        .map_err(|error| format!("{error:?}"))
}
