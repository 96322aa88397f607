//! Fixed responses.

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_TYPE;

use crate::config::Respond;

/// The response, always the same.
pub fn respond(respond: &Respond) -> Response<Bytes> {
    let mut response = Response::new(respond.body.clone());
    *response.status_mut() = respond.status;
    if let Some(media_type) = &respond.content_type {
        response.headers_mut().insert(CONTENT_TYPE, media_type.clone());
    }
    response
}
