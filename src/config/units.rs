//! Durations and sizes as an operator writes them.

use std::time::Duration;

/// Largest first: the order in which a duration such as `1m30s` names them.
const DURATIONS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1000),
    ("B", 1),
];

/// A duration such as `250ms`, `30s` or `1m30s`: units from large to small, each once.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let mut milliseconds = 0_u64;
    let mut units = DURATIONS.iter();
    let mut rest = text;

    while !rest.is_empty() || text.is_empty() {
        let (number, after) = split_number(rest)?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);

        // Searching on in one iterator is what keeps the order and refuses repeats.
        let (_, factor) = units.find(|(name, _)| *name == unit)?;
        milliseconds = milliseconds.checked_add(number.checked_mul(*factor)?)?;
        rest = after;
    }
    Some(Duration::from_millis(milliseconds))
}

/// A text that [`parse_duration`] reads as `duration`, in whole milliseconds.
pub(crate) fn duration_text(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }

    let mut text = String::new();
    for (unit, factor) in DURATIONS {
        if rest >= factor {
            text.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    text
}

/// A size such as `64KiB`, `10MB` or `512B`, in bytes.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    let (_, factor) = SIZES.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

/// A text that [`parse_size`] reads as `bytes`.
pub(crate) fn size_text(bytes: u64) -> String {
    let whole = SIZES.iter().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor));
    match whole {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

/// What to write for a duration that could not be read: its own number where that is clear.
pub(super) fn duration_help(text: &str) -> String {
    let spelled = |unit: &str| match unit {
        "millis" | "millisecond" | "milliseconds" | "msec" => Some("ms"),
        "" | "sec" | "secs" | "second" | "seconds" => Some("s"),
        "min" | "mins" | "minute" | "minutes" => Some("m"),
        "hr" | "hrs" | "hour" | "hours" => Some("h"),
        "day" | "days" => Some("d"),
        _ => DURATIONS
            .iter()
            .map(|(name, _)| *name)
            .find(|name| *name == unit)
            .or_else(|| guess(unit, "s")),
    };
    repaired(text, spelled)
        .unwrap_or_else(|| "write a whole number and ms, s, m, h or d, such as \"30s\"".to_owned())
}

/// What to write for a size that could not be read: its own number where that is clear.
pub(super) fn size_help(text: &str) -> String {
    let spelled = |unit: &str| match unit {
        "k" | "ki" => Some("KiB"),
        "" | "m" | "mi" => Some("MiB"),
        "g" | "gi" => Some("GiB"),
        _ => SIZES
            .iter()
            .map(|(name, _)| *name)
            .find(|name| name.eq_ignore_ascii_case(unit))
            .or_else(|| guess(unit, "MiB")),
    };
    repaired(text, spelled).unwrap_or_else(|| {
        "write a whole number and KiB, MiB or GiB, such as \"128MiB\"".to_owned()
    })
}

fn repaired(text: &str, spelled: impl Fn(&str) -> Option<&'static str>) -> Option<String> {
    let (number, unit) = split_number(text.trim())?;
    let unit = spelled(&unit.trim().to_ascii_lowercase())?;
    (number > 0).then(|| format!("write \"{number}{unit}\""))
}

/// The usual unit in place of a word that is none; what follows a `.` or a second number is not guessed at.
fn guess(word: &str, unit: &'static str) -> Option<&'static str> {
    word.chars().all(char::is_alphabetic).then_some(unit)
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    Some((number.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_written() {
        for (text, milliseconds) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("2d", 172_800_000),
            ("1m30s", 90_000),
            ("1h1ms", 3_600_001),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for bad in [
            "",
            "5",
            "s",
            "5 s",
            "-5s",
            "1.5s",
            "30s1m",
            "1s1s",
            "5S",
            "5us",
            "99999999999999999d",
            "1m30",
        ] {
            assert_eq!(parse_duration(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn sizes_read_as_written() {
        for (text, bytes) in
            [("64KiB", 65_536), ("128MiB", 128 << 20), ("1GiB", 1 << 30), ("10MB", 10_000_000)]
        {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for bad in
            ["", "64", "KiB", "64 KiB", "64kib", "1.5GiB", "-1B", "128 apples", "99999999999TiB"]
        {
            assert_eq!(parse_size(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn help_keeps_the_number_when_the_unit_is_clear() {
        assert_eq!(duration_help("30"), "write \"30s\"");
        assert_eq!(duration_help("5 min"), "write \"5m\"");
        assert_eq!(size_help("128mb"), "write \"128MB\"");
        assert_eq!(size_help("128 M"), "write \"128MiB\"");
        assert_eq!(size_help("128 apples"), "write \"128MiB\"");
        assert!(size_help("1.5GiB").starts_with("write a whole number"));
    }
}
