//! "Did you mean".

/// The candidate that `word` is most likely meant to be, if any is close.
pub(super) fn closest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_lowercase();
    // Words from a manifest may be long; nothing that long is a slip of a known name.
    if word.len() > 64 {
        return None;
    }

    candidates
        .into_iter()
        .filter_map(|candidate| {
            let distance = distance(&word, &candidate.to_lowercase());
            let shortened = word.len() > 1 && candidate.starts_with(&word);
            let lengthened = candidate.len() > 2 && word.starts_with(candidate);
            let close = shortened || lengthened || distance <= (word.chars().count() / 3).max(1);
            close.then_some((distance, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// Those that `word` is most likely meant to be, closest first, at most so many.
pub(super) fn close<'a>(word: &str, candidates: Vec<&'a str>, most: usize) -> Vec<&'a str> {
    let (mut left, mut found) = (candidates, Vec::new());
    while found.len() < most {
        let Some(next) = closest(word, left.iter().copied()) else { break };
        left.retain(|candidate| *candidate != next);
        found.push(next);
    }
    found
}

/// How many letters must be added, left out or replaced, the edit distance of Levenshtein.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();

    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word() {
        let keys = ["memory", "max_instances", "idle_timeout", "env"];
        for (slip, word) in [
            ("mem", "memory"),
            ("memroy", "memory"),
            ("Memory", "memory"),
            ("idle-timeout", "idle_timeout"),
            ("environment", "env"),
        ] {
            assert_eq!(closest(slip, keys), Some(word), "{slip}");
        }
        assert_eq!(closest("certificate", keys), None);
        assert_eq!(closest("x", ["ab"]), None);
        assert_eq!(closest("", keys), None);
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}
