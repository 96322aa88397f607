//! The smallest useful app: `hello world`, or another greeting if the
//! environment names one in `GREETING`.

use std::sync::OnceLock;

use wasip2::cli::environment::get_environment;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

wasip2::http::proxy::export!(Hello);

struct Hello;

impl Guest for Hello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let text = match request.path_with_query().as_deref() {
            Some("/version") => version(),
            _ => greeting(),
        };

        let headers = [("content-type".to_owned(), b"text/plain".to_vec())];
        let response = OutgoingResponse::new(Fields::from_list(&headers).unwrap());
        let body = response.body().unwrap();
        let stream = body.write().unwrap();

        // A fresh body has room for a line, so nothing here waits on the host:
        // the whole answer is ready when the outparam is set.
        assert!(stream.check_write().unwrap() >= text.len() as u64);
        stream.write(text.as_bytes()).unwrap();
        drop(stream);
        ResponseOutparam::set(out, Ok(response));
        // It fails only if the client has already left.
        let _ = OutgoingBody::finish(body, None);
    }
}

/// The answer, made once in the life of an instance.
fn greeting() -> &'static str {
    static GREETING: OnceLock<String> = OnceLock::new();
    GREETING.get_or_init(|| {
        let environment = get_environment();
        let word = environment
            .iter()
            .find(|(name, _)| name == "GREETING")
            .map_or("hello", |(_, value)| value);
        format!("{word} world\n")
    })
}

/// The digits after the colon of a marker which occurs once in the component:
/// whoever writes others over them has made another version of this app.
fn version() -> &'static str {
    #[used]
    static MARKER: [u8; 31] = *b"tidegate-hello-version:00000001";
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        // Volatile, or the compiler would answer with a copy of the digits.
        let marker = unsafe { (&raw const MARKER).read_volatile() };
        String::from_utf8_lossy(&marker[23..]).into_owned()
    })
}
