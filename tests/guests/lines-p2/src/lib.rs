//! A WASI 0.2 handler that always fails: `/exit` by its own wish, others at a line which its DWARF names.

use std::hint::black_box;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

wasip2::http::proxy::export!(Lines);

struct Lines;

impl Guest for Lines {
    fn handle(request: IncomingRequest, _out: ResponseOutparam) {
        // Its head is not the guest's any more when it fails.
        let path = request.path_with_query().unwrap_or_default();
        drop(request);
        eprintln!("about to fail at {path}");
        if path == "/exit" {
            std::process::exit(3);
        }
        add_to_cart(black_box(path.len()));
    }
}

#[inline(never)]
fn add_to_cart(price: usize) {
    if black_box(price) > 0 {
        core::arch::wasm32::unreachable();
    }
}
