//! What holds for every text, not just the ones that the other tests think of.

use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::host::Host;
use super::manifest::from_text;
use super::pattern::HostPattern;
use super::units::{
    duration_help, duration_text, parse_duration, parse_size, size_help, size_text,
};

const EXAMPLE: &str = include_str!("../../config.example.toml");

proptest! {
    #[test]
    fn any_authority_is_parsed_or_refused_and_a_host_is_its_own(text in "\\PC*|[a-zA-Z0-9.:\\[\\]_-]{0,80}") {
        if let Some(host) = Host::from_authority(&text) {
            prop_assert_eq!(Host::from_authority(host.as_str()), Some(host));
        }
    }

    #[test]
    fn a_pattern_is_its_own_text_and_matches_the_host_it_names(text in "\\PC*|(\\*\\.)?[a-zA-Zäß.]{1,20}") {
        if let Ok(pattern) = HostPattern::parse(&text) {
            prop_assert_eq!(HostPattern::parse(&pattern.to_string()), Ok(pattern.clone()));
            if let HostPattern::Exact(host) = &pattern {
                let requested = Host::from_authority(host.as_str());
                prop_assert!(requested.is_some_and(|host| pattern.matches(&host)));
            }
        }
    }

    #[test]
    fn a_duration_survives_being_written_and_read(milliseconds in 0_u64..1 << 50) {
        let duration = Duration::from_millis(milliseconds);
        prop_assert_eq!(parse_duration(&duration_text(duration)), Some(duration));
    }

    #[test]
    fn a_size_survives_being_written_and_read(bytes: u64) {
        prop_assert_eq!(parse_size(&size_text(bytes)), Some(bytes));
    }

    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text: String) {
        let _ = (parse_duration(&text), parse_size(&text), duration_help(&text), size_help(&text));
    }

    #[test]
    fn a_damaged_manifest_is_read_or_refused_with_lines_that_exist(
        damage in proptest::collection::vec((0_usize..EXAMPLE.len(), 0_usize..12, "[\\PC\n\"\\[\\]{}=.#é]{0,4}"), 1..6)
    ) {
        // With the settings that are commented out, which have no space after the `#`.
        let settings = EXAMPLE.lines().map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => setting,
            _ => line,
        });
        let mut text = settings.collect::<Vec<_>>().join("\n");
        for (at, removed, inserted) in damage {
            let mut at = at.min(text.len());
            while !text.is_char_boundary(at) { at -= 1; }
            let mut end = (at + removed).min(text.len());
            while !text.is_char_boundary(end) { end -= 1; }
            text.replace_range(at..end, &inserted);
        }

        // Below a folder that is not there, so that no folder is listed.
        let absolute = PathBuf::from("/nowhere/config.toml");
        if let Err(problems) = from_text(Path::new("config.toml"), absolute, &text) {
            prop_assert!(!problems.0.is_empty());
            for problem in &problems.0 {
                prop_assert!((1..=text.lines().count() + 1).contains(&problem.place.line), "{}", problem);
            }
        }
    }
}
