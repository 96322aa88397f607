//! The sample app `hello` again, for WASI 0.3.

use std::sync::OnceLock;

use wasip3::cli::environment::get_environment;
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{spawn_local, wit_future, wit_stream};

wasip3::http::service::export!(Hello);

struct Hello;

impl Guest for Hello {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let text = match request.get_path_with_query().as_deref() {
            Some("/version") => version(),
            _ => greeting(),
        };

        let headers = [("content-type".to_owned(), b"text/plain".to_vec())];
        let (mut body, contents) = wit_stream::new();
        // The sender is dropped here, which sends the default: no trailers.
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (response, _) = Response::new(
            Fields::from_list(&headers).unwrap(),
            Some(contents),
            trailers,
        );
        spawn_local(async move {
            // What is left over when the client has gone is nobody's concern.
            let _ = body.write_all(text.as_bytes().to_vec()).await;
        });
        Ok(response)
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
