//! Readers of single values: each says what it expected, with an example, and what it found.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;
use toml::de::{DeInteger, DeValue};

use super::listen::{ListenAddress, listen_address};
use super::origin::Origin;
use super::problem::Located;
use super::read::{Value, enumerated, quoted};
use super::suggest::closest;
use super::units::{
    duration_help, duration_text, parse_duration, parse_size, size_help, size_text,
};

const ADDRESSES: &str = "a list of addresses such as [\"0.0.0.0:8080\"]";
const DURATION: &str = "a duration such as \"30s\"";
const SIZE: &str = "a size such as \"128MiB\"";

impl<'a> Value<'a> {
    /// A duration from a millisecond to `most`.
    pub fn duration(&self, most: Duration) -> Option<Duration> {
        let duration = match (self.text(), self.integer()) {
            (Some(text), _) => match parse_duration(text) {
                Some(duration) => duration,
                None => return self.expected(DURATION, duration_help(text)),
            },
            (None, Some(number)) => {
                return self.expected(DURATION, duration_help(&number.to_string()));
            }
            (None, None) => return self.expected(DURATION, "write \"30s\""),
        };

        if duration.is_zero() {
            return self.expected("a duration above zero", "write a duration such as \"30s\"");
        }
        if duration > most {
            let most = duration_text(most);
            return self.expected(
                &format!("a duration of at most {most}"),
                format!("write \"{most}\" or less"),
            );
        }
        Some(duration)
    }

    /// A number of bytes between `least` and `most`.
    pub fn size(&self, least: u64, most: u64) -> Option<u64> {
        let size = match (self.text(), self.integer()) {
            (Some(text), _) => match parse_size(text) {
                Some(size) => size,
                None => return self.expected(SIZE, size_help(text)),
            },
            (None, Some(number)) => match u64::try_from(number) {
                Ok(size) => size,
                Err(_) => return self.expected(SIZE, "write \"128MiB\""),
            },
            (None, None) => return self.expected(SIZE, "write \"128MiB\""),
        };

        if size < least {
            let what = format!("a size of at least {}", size_text(least));
            // A number without a unit may have been meant to have one.
            let help = match (self.integer(), size) {
                (_, 0) => size_help("128"),
                (Some(number), _) => size_help(&number.to_string()),
                (None, _) => format!("write \"{}\" or more", size_text(least)),
            };
            return self.expected(&what, help);
        }
        if size > most {
            let most = size_text(most);
            return self.expected(
                &format!("a size of at most {most}"),
                format!("write \"{most}\" or less"),
            );
        }
        Some(size)
    }

    /// A number from 1 to `most`.
    pub fn count(&self, most: usize) -> Option<NonZeroUsize> {
        let what = format!("a whole number from 1 to {most}");
        let Some(number) = self.integer() else {
            let meant = self
                .text()
                .filter(|text| text.parse::<NonZeroUsize>().is_ok_and(|n| n.get() <= most));
            return self
                .expected(&what, format!("write {}", meant.unwrap_or("a number without quotes")));
        };

        let count = usize::try_from(number).ok().and_then(NonZeroUsize::new);
        match count {
            Some(count) if count.get() <= most => Some(count),
            Some(_) => self.expected(&what, format!("write {most} or less")),
            None => self.expected(&what, "write 1 or more"),
        }
    }

    /// A number from 0 to `most`.
    pub fn number(&self, most: usize) -> Option<usize> {
        let number = self.integer().and_then(|number| usize::try_from(number).ok());
        match number.filter(|number| *number <= most) {
            Some(number) => Some(number),
            None => self.expected(
                &format!("a whole number from 0 to {most}"),
                "write a number without quotes, such as 0",
            ),
        }
    }

    /// `true` or `false`.
    pub fn flag(&self) -> Option<bool> {
        match self.value.as_bool() {
            Some(flag) => Some(flag),
            None => self.expected("true or false", "write it without quotes"),
        }
    }

    /// The status code that this number is, where it is one.
    pub fn code(&self) -> Option<StatusCode> {
        let number = u16::try_from(self.integer()?).ok()?;
        StatusCode::from_u16(number).ok()
    }

    /// A fraction such as `1/100`, as the number below the line.
    pub fn one_in(&self, most: usize) -> Option<NonZeroUsize> {
        let what = format!("a fraction from \"1/1\" to \"1/{most}\"");
        let count = self
            .text()
            .and_then(|text| text.strip_prefix("1/"))
            .and_then(|count| count.parse().ok());
        match count.filter(|count: &NonZeroUsize| count.get() <= most) {
            Some(count) => Some(count),
            None => self.expected(&what, "write \"1/100\" for one in a hundred"),
        }
    }

    /// Any text; `example` is shown where there is none.
    pub fn string(&self, example: &str) -> Option<&'a str> {
        match self.value {
            DeValue::String(text) => Some(text),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {
                self.expected("a string", format!("write \"{}\"", self.found()))
            }
            _ => self.expected("a string", format!("write a string such as {}", quoted(example))),
        }
    }

    /// A list of strings.
    pub fn strings(&self, example: &str) -> Option<Vec<String>> {
        let example_list = format!("[{}]", quoted(example));
        let help = format!(
            "write {}",
            self.text().map_or(example_list, |text| format!("[{}]", quoted(text)))
        );
        let items = self.as_list("a list of strings", &help)?;
        all(items.iter().map(|item| item.string(example).map(str::to_owned)))
    }

    /// A path, made absolute.
    pub fn path(&self, example: &str) -> Option<PathBuf> {
        let help = format!("write a path such as {}", quoted(example));
        let Some(text) = self.text() else {
            return self.expected("a path", help);
        };
        if text.is_empty() || text.contains('\0') {
            return self.expected("a path", help);
        }
        match self.source.absolute(text) {
            Ok(path) => Some(path),
            Err(error) => {
                self.reject(format!("cannot make {} absolute: {error}", quoted(text)), help)
            }
        }
    }

    /// A path and its place.
    pub fn located_path(&self, example: &str) -> Option<Located<PathBuf>> {
        Some(Located { value: self.path(example)?, place: self.place.clone() })
    }

    /// One of a few words.
    pub fn one_of<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.text();
        if let Some((_, value)) = words.iter().find(|(word, _)| Some(*word) == text) {
            return Some(*value);
        }

        let what = enumerated(words.iter().map(|(word, _)| quoted(word)), "or");
        let meant = text.and_then(|text| closest(text, words.iter().map(|(word, _)| *word)));
        match meant {
            Some(word) => self.expected(&what, format!("write {}", quoted(word))),
            None => self.expected(&what, "write one of these"),
        }
    }

    /// Addresses to listen on, at most so many.
    pub fn addresses(&self, most: usize) -> Option<Vec<Located<ListenAddress>>> {
        let example = self
            .text()
            .map_or("[\"0.0.0.0:8080\"]".to_owned(), |text| format!("[{}]", quoted(text)));
        let items = self.as_list(ADDRESSES, &format!("write {example}"))?;
        if items.len() > most {
            return self.reject(
                format!("expected at most {most} addresses, found {}", items.len()),
                "leave some out",
            );
        }
        all(items
            .iter()
            .map(|item| Some(Located { value: listen_address(item)?, place: item.place.clone() })))
    }

    /// Origins that may be reached, at most so many.
    pub fn origins(&self, most: usize) -> Option<BTreeSet<Origin>> {
        let example = quoted(self.text().unwrap_or("https://api.example.com"));
        let items = self.as_list("a list of origins", &format!("write [{example}]"))?;
        if items.len() > most {
            return self.reject(
                format!("expected at most {most} origins, found {}", items.len()),
                "leave some out",
            );
        }
        let origins = items.iter().map(|item| match item.text().map(Origin::parse) {
            Some(Ok(origin)) => Some(origin),
            Some(Err(fault)) => item.reject(fault.to_string(), fault.help()),
            None => item.expected("an origin", "write \"https://api.example.com\""),
        });
        all(origins).map(BTreeSet::from_iter)
    }

    /// The number, if it is a whole one.
    pub fn integer(&self) -> Option<i64> {
        let number: &DeInteger = self.value.as_integer()?;
        // What is beyond 64 bits is beyond every limit here as well.
        Some(i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(i64::MAX))
    }
}

/// All values, once every one has been read and reported.
fn all<T>(values: impl Iterator<Item = Option<T>>) -> Option<Vec<T>> {
    let values: Vec<Option<T>> = values.collect();
    values.into_iter().collect()
}
