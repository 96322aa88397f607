//! A WASI 0.2 handler that reads a WASI 0.3 clock: components need not keep to
//! one version of WASI.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip3::clocks::monotonic_clock;

wasip2::http::proxy::export!(Mixed);

struct Mixed;

impl Guest for Mixed {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        let text = if monotonic_clock::now() > 0 {
            "mixed\n"
        } else {
            "no time\n"
        };

        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().unwrap();
        let stream = body.write().unwrap();
        assert!(stream.check_write().unwrap() >= text.len() as u64);
        stream.write(text.as_bytes()).unwrap();
        drop(stream);
        ResponseOutparam::set(out, Ok(response));
        // It fails only if the client has already left.
        let _ = OutgoingBody::finish(body, None);
    }
}
