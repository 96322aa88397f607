use proptest::prelude::*;

use super::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn headers(parents: &[&str], states: &[&str]) -> HeaderMap {
    let parents = parents.iter().map(|value| (TRACEPARENT, *value));
    let states = states.iter().map(|value| (TRACESTATE, *value));
    let mut headers = HeaderMap::new();
    for (name, value) in parents.chain(states) {
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn is_read(parent: &str) -> bool {
    read(&headers(&[parent], &[])).is_some()
}

#[test]
fn a_parent_is_read_and_written_as_it_was() {
    for (flags, sampled) in [("00", false), ("01", true)] {
        let text = format!("00-{TRACE}-{SPAN}-{flags}");
        let context = read(&headers(&[&text], &["a=1,b=2"])).expect("a parent");
        assert_eq!(context.trace_id().to_string(), TRACE);
        assert_eq!(context.span_id().to_string(), SPAN);
        assert_eq!(context.is_sampled(), sampled);
        assert!(context.is_remote());

        let mut told = headers(&["another"], &["x=y"]);
        write(&context, &mut told);
        assert_eq!(told, headers(&[&text], &["a=1,b=2"]));
    }
}

/// The cases of the specification, and of its test suite.
#[test]
fn what_is_no_traceparent_is_ignored() {
    let trace = TRACE;
    for parent in [
        String::new(),
        "00".to_owned(),
        format!("00-{trace}-{SPAN}"),
        format!("00-{trace}-{SPAN}-"),
        format!("00-{trace}-{SPAN}-1"),
        format!("00-{trace}-{SPAN}-01-"),
        format!("00-{trace}-{SPAN}-01-what"),
        format!("00-{trace}-{SPAN}-01."),
        format!("00-{trace}-{SPAN}-0x"),
        format!("00-{trace}-{SPAN}-A1"),
        format!("ff-{trace}-{SPAN}-01"),
        format!("0-{trace}-{SPAN}-01"),
        format!("0x-{trace}-{SPAN}-01"),
        format!("FF-{trace}-{SPAN}-01"),
        format!("000-{trace}-{SPAN}-01"),
        format!("+0-{trace}-{SPAN}-01"),
        format!("00-{}-{SPAN}-01", "0".repeat(32)),
        format!("00-{trace}-{}-01", "0".repeat(16)),
        format!("00-{}-{SPAN}-01", trace.to_uppercase()),
        format!("00-{trace}-{}-01", SPAN.to_uppercase()),
        format!("00-{}-{SPAN}-01", &trace[1..]),
        format!("00-{trace}0-{SPAN}-01"),
        format!("00-{trace}-{}-01", &SPAN[1..]),
        format!("00-{trace}-{SPAN}0-01"),
        format!("00-{}.-{SPAN}-01", &trace[1..]),
        format!("00-+{}-{SPAN}-01", &trace[1..]),
        format!("00_{trace}_{SPAN}_01"),
        format!("01-{trace}-{SPAN}-01.later"),
        format!("cc-{trace}-{SPAN}-01what"),
    ] {
        assert!(!is_read(&parent), "{parent:?}");
    }
    let good = format!("00-{TRACE}-{SPAN}-01");
    assert!(read(&headers(&[&good, &good], &[])).is_none(), "which of the two");
    assert!(read(&headers(&[], &["a=1"])).is_none());
    let mut latin = HeaderMap::new();
    latin.insert(TRACEPARENT, HeaderValue::from_bytes(&[0xe4; LENGTH]).unwrap());
    assert!(read(&latin).is_none());
}

#[test]
fn of_later_versions_what_is_known_is_read() {
    for more in ["", "-", "-what-it-may-be"] {
        let context = read(&headers(&[&format!("cc-{TRACE}-{SPAN}-01{more}")], &[]));
        assert_eq!(context.expect(more).trace_id().to_string(), TRACE);
    }
    // Flags that are not known yet are not passed on.
    let context = read(&headers(&[&format!("00-{TRACE}-{SPAN}-ff")], &[])).unwrap();
    assert_eq!(context.trace_flags(), TraceFlags::SAMPLED);
    let context = read(&headers(&[&format!("00-{TRACE}-{SPAN}-fe")], &[])).unwrap();
    assert_eq!(context.trace_flags(), TraceFlags::NOT_SAMPLED);
}

#[test]
fn a_state_that_cannot_be_read_costs_no_parent() {
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let state = |states: &[&str]| {
        read(&headers(&[&parent], states)).expect("a parent").trace_state().header()
    };
    assert_eq!(state(&["a=1", "b=2"]), "a=1,b=2");
    assert_eq!(state(&["a=1 , ,b=2,"]), "a=1,b=2");
    assert_eq!(state(&[]), "");
    for broken in ["nothing", "UPPER=1", "a=b=c", "=1"] {
        assert_eq!(state(&[broken]), "", "{broken}");
    }
    let long = format!("a={}", "x".repeat(200));
    let many: Vec<_> = (0..20).map(|_| long.as_str()).collect();
    assert_eq!(state(&many), "", "too long");
}

proptest! {
    #[test]
    fn whatever_comes_is_read_or_ignored(text in "[ -~]{0,80}") {
        if let Some(context) = read(&headers(&[&text], &[])) {
            prop_assert!(context.is_valid());
        }
    }

    #[test]
    fn near_misses_are_no_parents(at in 0..LENGTH, byte in b' '..b'~') {
        let mut text = format!("00-{TRACE}-{SPAN}-01").into_bytes();
        text[at] = byte;
        let text = String::from_utf8(text).unwrap();
        if let Some(context) = read(&headers(&[&text], &[])) {
            let mut told = HeaderMap::new();
            write(&context, &mut told);
            prop_assert_eq!(&told[TRACEPARENT].as_bytes()[2..52], &text.as_bytes()[2..52]);
        }
    }
}
