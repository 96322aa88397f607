//! Medians, and contestants compared round by round.
//!
//! The same code costs twice as much from one hour to the next on a shared
//! machine. So contestants take turns, and what is reported is the median of
//! the rounds' own ratios, not a ratio of medians.

/// The one in the middle. NaN of nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// The median of `a/b`, round by round.
pub fn ratio(a: &[f64], b: &[f64]) -> f64 {
    median(a.iter().zip(b).map(|(a, b)| a / b))
}

/// The median of `a-b`, round by round.
pub fn difference(a: &[f64], b: &[f64]) -> f64 {
    median(a.iter().zip(b).map(|(a, b)| a - b))
}

/// The orders of the rounds: forward and backward in turn, so that who comes
/// first has no advantage.
pub fn order(round: usize, contestants: usize) -> Vec<usize> {
    match round % 2 {
        0 => (0..contestants).collect(),
        _ => (0..contestants).rev().collect(),
    }
}
