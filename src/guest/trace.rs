//! Where in a guest an error came up: the functions that were being called, by name.

use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};
use wasmtime::{FrameInfo, WasmBacktrace};

/// Bytes of a function's name, a module's and a source file's; guests choose them, and a longer one is cut.
const MAX_NAME: usize = 256;

/// How deep the names of C++ may be nested.
const MAX_NESTING: u32 = 64;

/// One function that was being called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Its name, demangled; its number where it has none.
    pub function: String,
    /// The core module that it is in, by the name that the compiler gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Where it was, in bytes from the beginning of the component's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// The same as FILE:LINE, where the component has DWARF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// The calls that were under way when `error` came up in a guest, the innermost first, without
/// their sources. wasmtime keeps twenty of them.
pub fn frames(error: &wasmtime::Error) -> Vec<Frame> {
    let backtrace = error.downcast_ref::<WasmBacktrace>();
    backtrace.map_or(&[][..], WasmBacktrace::frames).iter().map(Frame::new).collect()
}

impl Frame {
    fn new(info: &FrameInfo) -> Self {
        Self {
            function: match info.func_name() {
                Some(name) => demangled(name),
                None => format!("function {}", info.func_index()),
            },
            module: info.module().name().map(cut),
            offset: info.module_offset().map(|offset| offset as u64),
            source: None,
        }
    }

    /// Whether it belongs to a language's runtime, whose frames are on top when a guest ends itself.
    pub fn is_runtime(&self) -> bool {
        const RUNTIME: [&str; 10] = [
            "std::",
            "core::",
            "alloc::",
            "__rust",
            "rust_panic",
            "rust_begin_unwind",
            "rust_oom",
            "abort",
            "__abort",
            "panic_abort",
        ];
        let name = self.function.trim_start_matches('<');
        RUNTIME.iter().any(|prefix| name.starts_with(prefix))
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.function)?;
        match &self.source {
            Some(source) => write!(f, " at {source}"),
            None => Ok(()),
        }
    }
}

/// As Rust or C++ has the name, or as it is; cut where that is long.
pub(super) fn demangled(name: &str) -> String {
    let mut text = Short(String::new());
    // What is too long ends as it is cut.
    let written = if let Ok(rust) = rustc_demangle::try_demangle(name) {
        write!(text, "{rust:#}")
    } else if let Some(symbol) = cpp(name) {
        let options = cpp_demangle::DemangleOptions::new().recursion_limit(MAX_NESTING);
        symbol.structured_demangle(&mut text, &options)
    } else {
        return cut(name);
    };
    match written {
        Err(_) if text.0.is_empty() => cut(name),
        _ => text.0,
    }
}

fn cpp(name: &str) -> Option<cpp_demangle::Symbol<&str>> {
    let options = cpp_demangle::ParseOptions::default().recursion_limit(MAX_NESTING);
    let short = name.starts_with("_Z") && name.len() <= MAX_NAME * 4;
    short.then(|| cpp_demangle::Symbol::new_with_options(name, &options).ok()).flatten()
}

/// At most [`MAX_NAME`] bytes of it.
pub(super) fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_NAME)].to_owned()
}

/// A string that takes no more than [`MAX_NAME`] bytes: a few bytes of mangled name can be any
/// number of demangled ones.
struct Short(String);

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MAX_NAME - self.0.len();
        let end = text.floor_char_boundary(room.min(text.len()));
        self.0.push_str(&text[..end]);
        if end == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str) -> Frame {
        Frame { function: function.to_owned(), module: None, offset: None, source: None }
    }

    #[test]
    fn names_are_as_their_language_has_them() {
        for (mangled, name) in [
            ("_ZN4shop4cart3add17h05af221e174051e9E", "shop::cart::add"),
            ("_RNvNtCs1234_4shop4cart3add", "shop::cart::add"),
            ("_ZN4shop3addEi", "shop::add(int)"),
            ("_ZN6common9misbehave4spin17h0123456789abcdefE", "common::misbehave::spin"),
            ("_ZN3foo3barEi", "foo::bar(int)"),
            ("cabi_realloc", "cabi_realloc"),
            ("main", "main"),
            ("_Zwrong", "_Zwrong"),
        ] {
            assert_eq!(demangled(mangled), name);
        }
    }

    #[test]
    fn a_name_is_cut_before_it_is_long() {
        assert_eq!(demangled(&"ä".repeat(1000)).len(), MAX_NAME);
        // Each of its parameters is the one before it, twice.
        let bomb = (0..24).fold("_Z1fSt4pairIiiE".to_owned(), |name, at| {
            let last = if at == 0 { "S0_".to_owned() } else { format!("S{}_", at) };
            name + &format!("St4pairI{last}{last}E")
        });
        assert!(demangled(&bomb).len() <= MAX_NAME);
    }

    #[test]
    fn what_ends_a_guest_is_not_where_it_failed() {
        for runtime in [
            "__rust_abort",
            "abort",
            "std::panicking::begin_panic",
            "core::panicking::panic_fmt",
            "rust_panic",
            "<alloc::vec::Vec<T> as Drop>::drop",
        ] {
            assert!(frame(runtime).is_runtime(), "{runtime}");
        }
        for own in [
            "shop::cart::add",
            "main",
            "rust_shop::handle",
            "standard",
            "handle",
            "wasi:http/incoming-handler@0.2.0#handle",
        ] {
            assert!(!frame(own).is_runtime(), "{own}");
        }
    }
}
