//! What a file holds, by the end of its name.

use std::path::Path;

use http::HeaderValue;

/// The media type of a file of that name. Text is UTF-8: so are nearly all files today, and
/// without that word browsers take it for something older.
pub fn of(name: &Path) -> HeaderValue {
    match mime_guess::from_path(name).first_raw() {
        Some("text/html") => HeaderValue::from_static("text/html; charset=utf-8"),
        // The one that RFC 9239 leaves of the many.
        Some("text/javascript" | "application/javascript") => {
            HeaderValue::from_static("text/javascript; charset=utf-8")
        }
        Some("text/css") => HeaderValue::from_static("text/css; charset=utf-8"),
        Some(text) if text.starts_with("text/") => {
            // Made of what the table has, which are all values.
            HeaderValue::try_from(format!("{text}; charset=utf-8"))
                .unwrap_or_else(|_| HeaderValue::from_static(text))
        }
        Some(other) => HeaderValue::from_static(other),
        None => HeaderValue::from_static("application/octet-stream"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_web_is_made_of_has_its_type() {
        for (name, media_type) in [
            ("index.html", "text/html; charset=utf-8"),
            ("a/b.JS", "text/javascript; charset=utf-8"),
            ("a.mjs", "text/javascript; charset=utf-8"),
            ("a.css", "text/css; charset=utf-8"),
            ("a.txt", "text/plain; charset=utf-8"),
            ("a.json", "application/json"),
            ("a.webmanifest", "application/manifest+json"),
            ("a.wasm", "application/wasm"),
            ("a.svg", "image/svg+xml"),
            ("a.png", "image/png"),
            ("a.jpg", "image/jpeg"),
            ("a.webp", "image/webp"),
            ("a.avif", "image/avif"),
            ("a.ico", "image/x-icon"),
            ("a.woff2", "font/woff2"),
            ("a.mp4", "video/mp4"),
            ("a.pdf", "application/pdf"),
            ("a.xml", "text/xml; charset=utf-8"),
            ("a.min.js.gz", "application/gzip"),
            ("LICENSE", "application/octet-stream"),
            ("a.", "application/octet-stream"),
        ] {
            assert_eq!(of(Path::new(name)), media_type, "{name}");
        }
    }
}
