//! W3C Trace Context: the headers `traceparent` and `tracestate`, in and out.

use std::fmt::Write as _;
use std::str::FromStr;

use http::HeaderName;
use http::header::{HeaderMap, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Bytes of version 00, and of what later versions begin with.
const LENGTH: usize = 55;

/// Bytes of a `tracestate` that is passed on; the specification asks for 512 at the least.
const STATE_MAX: usize = 2048;

/// The span that a request comes from, as its headers have it.
///
/// One that is not as it should be is none: the request begins a trace, as the specification says.
pub fn read(headers: &HeaderMap) -> Option<SpanContext> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (trace, span, flags) = parse(value.as_bytes())?;
    Some(SpanContext::new(trace, span, flags, true, state(headers)))
}

/// Says in `headers` which span a request comes from, and nothing else of traces.
pub fn write(context: &SpanContext, headers: &mut HeaderMap) {
    let mut text = String::with_capacity(LENGTH);
    let (trace, span) = (context.trace_id(), context.span_id());
    let _ = write!(text, "00-{trace:032x}-{span:016x}-{:02x}", context.trace_flags());
    let state = context.trace_state().header();
    let state = Some(state).filter(|state| !state.is_empty());
    for (name, text) in [(TRACEPARENT, Some(text)), (TRACESTATE, state)] {
        match text.and_then(|text| HeaderValue::try_from(text).ok()) {
            // Full is a map that no request has been read into.
            Some(value) => drop(headers.try_insert(name, value)),
            None => drop(headers.remove(name)),
        }
    }
}

fn parse(text: &[u8]) -> Option<(TraceId, SpanId, TraceFlags)> {
    let (known, more) = text.split_at_checked(LENGTH)?;
    let is_divided = [2, 35, 52].iter().all(|at| known[*at] == b'-');
    let (version, flags) = (digits(&known[..2])?, digits(&known[53..])?);
    let is_whole = match version {
        0xff => false,
        0 => more.is_empty(),
        // Of what a later version adds nothing is known but that it is set off.
        _ => more.first().is_none_or(|byte| *byte == b'-'),
    };
    let trace = TraceId::from(digits(&known[3..35])?);
    let span = SpanId::from(u64::try_from(digits(&known[36..52])?).ok()?);
    let is_valid = is_divided && is_whole && trace != TraceId::INVALID && span != SpanId::INVALID;
    let flags = TraceFlags::new(u8::try_from(flags).ok()?) & TraceFlags::SAMPLED;
    is_valid.then_some((trace, span, flags))
}

/// A number of lower-case hexadecimal digits.
fn digits(text: &[u8]) -> Option<u128> {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let text = str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| is_digit(&byte)))?;
    u128::from_str_radix(text, 16).ok()
}

/// What other vendors say of the trace, as far as it can be read and is not too long.
fn state(headers: &HeaderMap) -> TraceState {
    let mut all = String::new();
    for value in headers.get_all(TRACESTATE) {
        let Ok(text) = value.to_str() else { return TraceState::NONE };
        if all.len() + text.len() >= STATE_MAX {
            return TraceState::NONE;
        }
        // Which the library takes for a member without a name.
        if text.split(',').any(|member| member.trim_start().starts_with('=')) {
            return TraceState::NONE;
        }
        all.push_str(text);
        all.push(',');
    }
    TraceState::from_str(&all).unwrap_or(TraceState::NONE)
}

#[cfg(test)]
#[path = "parent_tests.rs"]
mod tests;
