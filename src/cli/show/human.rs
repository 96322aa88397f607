//! Numbers as people read them: three digits and a unit.

use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Bytes, such as `412 MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", three_digits(value), UNITS[unit])
}

/// How long something lasts, or ago it was: the two largest units of it, such as `3d 4h`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let two = |large: u64, name: char, small: u64, below: char| match seconds % large / small {
        0 => format!("{}{name}", seconds / large),
        rest => format!("{}{name} {rest}{below}", seconds / large),
    };
    match seconds {
        0 => latency(duration.as_secs_f64()),
        1..MINUTE => format!("{seconds}s"),
        MINUTE..HOUR => two(MINUTE, 'm', 1, 's'),
        HOUR..DAY => two(HOUR, 'h', MINUTE, 'm'),
        DAY.. => two(DAY, 'd', HOUR, 'h'),
    }
}

/// Seconds that something took, such as `12.3ms`.
pub fn latency(seconds: f64) -> String {
    if seconds <= 0.0 {
        "0".to_owned()
    } else if seconds < 0.000_999_5 {
        format!("{}µs", three_digits(seconds * 1e6))
    } else if seconds < 0.999_5 {
        format!("{}ms", three_digits(seconds * 1e3))
    } else {
        format!("{}s", three_digits(seconds))
    }
}

/// How much of something there is, or how often it is in a second, such as `12.3k`.
pub fn amount(value: f64) -> String {
    if value <= 0.0 {
        "0".to_owned()
    } else if value < 999.5 {
        three_digits(value)
    } else if value < 999_500.0 {
        format!("{}k", three_digits(value / 1e3))
    } else {
        format!("{}M", three_digits(value / 1e6))
    }
}

/// A count, in full as long as that is short.
pub fn count(value: u64) -> String {
    if value < 100_000 { value.to_string() } else { amount(value as f64) }
}

/// A part of one, such as `12.3%`.
pub fn percent(part: f64) -> String {
    if part <= 0.0 { "0%".to_owned() } else { format!("{}%", three_digits(part * 100.0)) }
}

fn three_digits(value: f64) -> String {
    let text = match value {
        ..9.995 => format!("{value:.2}"),
        ..99.95 => format!("{value:.1}"),
        _ => return format!("{value:.0}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_binary_units() {
        let expected = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (1023 << 10, "1 MiB"),
            (412 << 20, "412 MiB"),
            (3 << 40, "3 TiB"),
            (5000 << 40, "5000 TiB"),
        ];
        for (value, text) in expected {
            assert_eq!(bytes(value), text);
        }
    }

    #[test]
    fn durations_have_two_units() {
        let expected = [
            (0, "0"),
            (59, "59s"),
            (60, "1m"),
            (312, "5m 12s"),
            (3600, "1h"),
            (7320, "2h 2m"),
            (86_400, "1d"),
            (273_600, "3d 4h"),
        ];
        for (seconds, text) in expected {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
        assert_eq!(duration(Duration::from_millis(250)), "250ms");
    }

    #[test]
    fn numbers_have_three_digits() {
        let latencies = [
            (0.0000123, "12.3µs"),
            (0.0123, "12.3ms"),
            (0.9999, "1s"),
            (1.5, "1.5s"),
            (31.0, "31s"),
        ];
        for (value, text) in latencies {
            assert_eq!(latency(value), text);
        }
        let amounts = [
            (0.0, "0"),
            (0.25, "0.25"),
            (12.34, "12.3"),
            (999.6, "1k"),
            (12_345.0, "12.3k"),
            (2e6, "2M"),
        ];
        for (value, text) in amounts {
            assert_eq!(amount(value), text);
        }
        assert_eq!(
            (percent(0.0), percent(0.005), percent(1.0)),
            ("0%".into(), "0.5%".into(), "100%".into())
        );
        assert_eq!((count(99_999), count(100_000)), ("99999".into(), "100k".into()));
    }
}
