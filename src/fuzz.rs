//! What the fuzzers in `fuzz/` call, each with any bytes: a panic is a promise broken.
//!
//! Built for them and for tests only, as it reaches into parsers that are nobody else's.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::config::{Host, HostPattern, LogFormat, Origin, OriginScheme, manifest_from_text};
use crate::guest::code::{Code, Label, memory_file};
use crate::logging::write_value;
use crate::server::{Frames, try_forwarded};

/// A manifest is taken, or every problem in it has a place and words.
pub fn manifest(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (path, absolute) = (Path::new("config.toml"), PathBuf::from("/fuzz/config.toml"));
    match manifest_from_text(path, absolute, text) {
        Ok(config) => assert!(config.changes_needing_restart(&config).is_empty()),
        Err(problems) => {
            assert!(!problems.0.is_empty(), "refused without a reason");
            let lines = text.lines().count() + 1;
            for problem in &problems.0 {
                assert!(problem.place.line <= lines, "{problem}");
                assert!(!problem.to_string().is_empty());
            }
        }
    }
}

/// A host is one of its own, however it was written; so are a pattern and an origin.
pub fn host(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Some(host) = Host::from_authority(text) {
        assert!(host.as_str().is_ascii() && host.as_str() == host.as_str().to_ascii_lowercase());
        assert_eq!(Host::from_authority(host.as_str()), Some(host));
    }
    if let Ok(pattern) = HostPattern::parse(text) {
        assert_eq!(HostPattern::parse(&pattern.to_string()), Ok(pattern));
    }
    if let Some(origin) = Origin::of(OriginScheme::Https, text) {
        let written = origin.to_string();
        let authority = written.strip_prefix("https://").expect("its scheme comes first");
        assert_eq!(Origin::of(OriginScheme::Https, authority), Some(origin));
    }
}

/// Whatever is logged is one line that moves no cursor, and in JSON the value it was.
pub fn log_line(bytes: &[u8]) {
    let value = String::from_utf8_lossy(bytes);
    for is_message in [true, false] {
        let mut line = String::new();
        write_value(&mut line, LogFormat::Text, is_message, &value);
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(!line.contains(['\u{2028}', '\u{2029}', '\u{202e}', '\u{2066}']), "{line:?}");
        // Where it can hold a space, its end is known.
        let is_quoted = line.len() >= 2 && line.starts_with('"') && line.ends_with('"');
        assert!(is_message || is_quoted || !line.contains([' ', '=', '"']), "{line:?}");
    }
    let mut line = String::new();
    write_value(&mut line, LogFormat::Json, false, &value);
    assert!(!line.contains(['\n', '\r']), "{line:?}");
    let read: String = serde_json::from_str(&line).expect("JSON");
    let kept = read.strip_suffix(" ... (cut)").unwrap_or(&read);
    assert!(read == value || (value.starts_with(kept) && kept.len() > 32_000), "{line:?}");
}

/// Of any bytes at the end of compiled code only those that a label makes are one.
pub fn cache_header(bytes: &[u8]) {
    if let Some(label) = Label::parse(bytes) {
        assert_eq!(label.to_bytes(), bytes);
    }
    let mut file = memory_file(c"fuzz").expect("a file in memory");
    file.write_all(bytes).expect("write it");
    if let Ok(code) = Code::read(file, bytes.len() as u64) {
        assert_eq!(code.label.size + Label::SIZE as u64, bytes.len() as u64);
    }
}

/// The guard of HTTP/2 sees the same frames wherever the bytes are cut.
pub fn byte_guard(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let (mut whole, mut pieces) = (Frames::new(), Frames::new());
    let taken = whole.receive(bytes);
    let in_pieces =
        bytes.chunks(usize::from(*size) + 1).try_for_each(|piece| pieces.receive(piece));
    if taken.is_ok() && in_pieces.is_ok() {
        assert_eq!(whole.goodbye(), pieces.goodbye());
    }
    whole.send(bytes);
    bytes.chunks(usize::from(*size) + 1).for_each(|piece| pieces.send(piece));
    if taken.is_ok() && in_pieces.is_ok() {
        assert_eq!(whole.goodbye().is_some(), pieces.goodbye().is_some());
    }
}

/// Whatever a client writes, what a trusted proxy adds after it is what counts.
pub fn forwarded_headers(bytes: &[u8]) {
    try_forwarded(bytes);
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Every input that is kept for a target, also those that once broke it.
    fn corpus(target: &str, try_out: fn(&[u8])) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let entries = fs::read_dir(&dir).expect("the corpus");
        let inputs: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        assert!(!inputs.is_empty());
        for path in inputs {
            let bytes = fs::read(path).expect("an input");
            // As it is, and cut in the middle.
            let (first, second) = bytes.split_at(bytes.len() / 2);
            [&bytes, first, second].into_iter().for_each(try_out);
        }
    }

    #[test]
    fn each_target_holds_on_its_corpus() {
        corpus("manifest", manifest);
        corpus("host", host);
        corpus("log_line", log_line);
        corpus("cache_header", cache_header);
        corpus("byte_guard", byte_guard);
        corpus("forwarded_headers", forwarded_headers);
    }
}
