//! Which part of a file is wanted: RFC 9110, section 14.
//!
//! One range is answered with that part. Several are answered with the whole file, as RFC 9110
//! allows: no browser asks for them, and a request of a few bytes must not make an answer of many
//! parts.

use http::HeaderMap;
use http::header::RANGE;

/// What of a file is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Whole,
    /// At least one byte.
    Of {
        start: u64,
        length: u64,
    },
    /// 416: there is no such part.
    None,
}

/// The part of `size` bytes that a request wants; the whole where that is not clear.
pub fn part(request: &HeaderMap, size: u64) -> Part {
    let mut ranges = request.get_all(RANGE).iter();
    let (Some(range), None) = (ranges.next(), ranges.next()) else { return Part::Whole };
    let Some((unit, list)) = range.to_str().ok().and_then(|range| range.split_once('=')) else {
        return Part::Whole;
    };
    let mut ranges = list.split(',').map(str::trim).filter(|range| !range.is_empty());
    let (Some(range), None) = (ranges.next(), ranges.next()) else { return Part::Whole };
    // Of nothing there is no part, and clients that always ask for a range mean the whole.
    if !unit.eq_ignore_ascii_case("bytes") || size == 0 {
        return Part::Whole;
    }
    match range.split_once('-').map(|(first, last)| (number(first), number(last))) {
        // The last so many bytes.
        Some((Number::Absent, Number::Some(0))) => Part::None,
        Some((Number::Absent, Number::Some(length))) => {
            let length = length.min(size);
            Part::Of { start: size - length, length }
        }
        Some((Number::Some(start), Number::Absent)) if start < size => {
            Part::Of { start, length: size - start }
        }
        Some((Number::Some(start), Number::Some(last))) if start <= last && start < size => {
            Part::Of { start, length: last.min(size - 1) - start + 1 }
        }
        Some((Number::Some(_), Number::Absent)) => Part::None,
        Some((Number::Some(start), Number::Some(last))) if start <= last => Part::None,
        _ => Part::Whole,
    }
}

#[derive(Clone, Copy)]
enum Number {
    Absent,
    Some(u64),
    Wrong,
}

/// Digits only. What is beyond 64 bits is beyond every file's end as well.
fn number(text: &str) -> Number {
    match text {
        "" => Number::Absent,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Number::Some(digits.parse().unwrap_or(u64::MAX))
        }
        _ => Number::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn of(range: &str, size: u64) -> Part {
        let mut request = HeaderMap::new();
        request.insert(RANGE, HeaderValue::from_str(range).unwrap());
        part(&request, size)
    }

    #[test]
    fn ranges_are_read_as_the_standard_has_them() {
        let part = |start, length| Part::Of { start, length };
        for (range, expected) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=0-9", part(0, 10)),
            ("bytes=0-", part(0, 10)),
            ("bytes=3-5", part(3, 3)),
            ("bytes=9-", part(9, 1)),
            ("bytes=5-999", part(5, 5)),
            ("bytes=5-99999999999999999999999", part(5, 5)),
            ("bytes=-3", part(7, 3)),
            ("bytes=-100", part(0, 10)),
            ("bytes= 3-5 ,", part(3, 3)),
            ("BYTES=1-2", part(1, 2)),
            ("bytes=10-", Part::None),
            ("bytes=10-20", Part::None),
            ("bytes=99999999999999999999999-", Part::None),
            ("bytes=-0", Part::None),
            ("bytes=5-4", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=--1", Part::Whole),
            ("bytes=1", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=", Part::Whole),
            ("bytes", Part::Whole),
            ("lines=1-2", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=0-,0-,0-,0-", Part::Whole),
        ] {
            assert_eq!(of(range, 10), expected, "{range}");
        }
        assert_eq!(of("bytes=0-", 0), Part::Whole, "of an empty file");
    }

    proptest! {
        #[test]
        fn a_part_lies_within_the_file(range in "bytes=[0-9]{0,20}-[0-9]{0,20}", size in any::<u64>()) {
            if let Part::Of { start, length } = of(&range, size) {
                prop_assert!(length > 0 && start.checked_add(length).is_some_and(|end| end <= size));
            }
        }
    }
}
