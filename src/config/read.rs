//! The manifest's TOML as tables and values that know their place.
//!
//! A reader returns `None` once it has reported what is wrong, so the walk goes
//! on and finds every problem; none of what it built is used then.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::problem::{Place, Problem};
use super::suggest::closest;

/// One manifest being read, and what is wrong with it so far.
pub(super) struct Source<'a> {
    /// As the user named it.
    file: &'a Path,
    /// Absolute; what relative paths are relative to.
    pub dir: &'a Path,
    line_starts: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
}

/// A value and its place.
pub(super) struct Value<'a> {
    pub source: &'a Source<'a>,
    pub value: &'a DeValue<'a>,
    pub place: Place,
}

/// A table whose keys are taken one by one: what nobody asks for is unknown.
pub(super) struct Table<'a> {
    pub source: &'a Source<'a>,
    pub place: Place,
    entries: Vec<(&'a str, Value<'a>)>,
    asked: Vec<&'static str>,
}

impl<'a> Source<'a> {
    pub fn new(file: &'a Path, dir: &'a Path, text: &str) -> Source<'a> {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        Source { file, dir, line_starts, problems: RefCell::default() }
    }

    /// The place of the byte at `offset`.
    pub fn place(&self, offset: usize, key: String) -> Place {
        let line = self.line_starts.partition_point(|start| *start <= offset);
        Place { file: self.file.to_owned(), line, key }
    }

    pub fn report(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// What was reported, in the order of the file.
    pub fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.place.line);
        problems
    }

    /// The manifest's outermost table.
    pub fn root(&'a self, table: &'a DeTable<'a>) -> Table<'a> {
        Table::new(self, table, self.place(0, String::new()))
    }

    /// `path` as the manifest means it.
    pub fn absolute(&self, path: &str) -> std::io::Result<PathBuf> {
        std::path::absolute(self.dir.join(path))
    }
}

impl<'a> Table<'a> {
    fn new(source: &'a Source<'a>, table: &'a DeTable<'a>, place: Place) -> Table<'a> {
        let entry = |(key, value): (&'a Spanned<DeString<'a>>, &'a Spanned<DeValue<'a>>)| {
            let name: &'a str = key.get_ref();
            let place = source.place(key.span().start, join(&place.key, name));
            (key.span().start, (name, Value { source, value: value.get_ref(), place }))
        };

        let mut entries: Vec<_> = table.iter().map(entry).collect();
        entries.sort_by_key(|(at, _)| *at);
        let entries = entries.into_iter().map(|(_, entry)| entry).collect();
        Table { source, place, entries, asked: Vec::new() }
    }

    /// Whether `key` is there and not yet taken.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The value of `key`, left where it is.
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        self.entries.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// The first key of those that are left.
    pub fn first(&self) -> Option<&'a str> {
        self.entries.first().map(|(name, _)| *name)
    }

    /// A key that is there and likely meant to be `key`.
    pub fn slip_of(&self, key: &str) -> Option<&'a str> {
        self.entries.iter().map(|(name, _)| *name).find(|name| closest(name, [key]).is_some())
    }

    /// Takes out, and reports, what is likely meant to be one of `keys`, and is none.
    pub fn reject_slips(&mut self, keys: &[&'static str]) {
        for (name, value) in std::mem::take(&mut self.entries) {
            match closest(name, keys.iter().copied()) {
                Some(known) if !name.starts_with('/') => {
                    value.reject::<()>(
                        format!("unknown key `{name}`"),
                        format!("did you mean `{known}`?"),
                    );
                }
                _ => self.entries.push((name, value)),
            }
        }
    }

    /// The value of `key`, if there is one that `read` accepts.
    pub fn take<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Option<T> {
        self.asked.push(key);
        let at = self.entries.iter().position(|(name, _)| *name == key)?;
        read(&self.entries.remove(at).1)
    }

    /// The value of `key`, which has to be there; `example` is shown where it is not.
    pub fn require<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Option<T> {
        // A slip in the key's name is reported as such, and needs no second report.
        if !self.has(key) && self.slip_of(key).is_none() {
            let problem = self.place.problem(format!("`{key}` is missing"));
            self.source.report(problem.with_help(format!("add {key} = {example}")));
        }
        self.take(key, read)
    }

    /// What `read` makes of the table under `key`; of an empty one where there is none.
    pub fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Table<'a>) -> T) -> T {
        let help = format!("write [{}]", join(&self.place.key, key));
        let found = self.take(key, |value| value.as_table("a table", &help));
        let place = Place { key: join(&self.place.key, key), ..self.place.clone() };
        let empty = Table { source: self.source, place, entries: Vec::new(), asked: Vec::new() };
        found.unwrap_or(empty).read(read)
    }

    /// What `read` makes of this table, whose other keys are unknown.
    pub fn read<T>(mut self, read: impl FnOnce(&mut Table<'a>) -> T) -> T {
        let result = read(&mut self);

        for (name, value) in &self.entries {
            let help = match closest(name, self.asked.iter().copied()) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!(
                    "the keys here are {}",
                    enumerated(self.asked.iter().map(|key| format!("`{key}`")), "and")
                ),
            };
            value.reject::<()>(format!("unknown key `{name}`"), help);
        }
        result
    }

    /// All entries that are left, in the order of the file, for a table of free names.
    pub fn entries(&mut self) -> Vec<(&'a str, Value<'a>)> {
        std::mem::take(&mut self.entries)
    }
}

impl<'a> Value<'a> {
    /// Reports this value.
    pub fn reject<T>(&self, message: impl Into<String>, help: impl Into<String>) -> Option<T> {
        self.source.report(self.place.problem(message).with_help(help));
        None
    }

    /// Reports that this value is something else than `what`, which names an example.
    pub fn expected<T>(&self, what: &str, help: impl Into<String>) -> Option<T> {
        self.reject(format!("expected {what}, found {}", self.found()), help)
    }

    pub fn as_table(&self, what: &str, help: &str) -> Option<Table<'a>> {
        match self.value {
            DeValue::Table(table) => Some(Table::new(self.source, table, self.place.clone())),
            _ => self.expected(what, help),
        }
    }

    /// The items of a list, each with its own place.
    pub fn as_list(&self, what: &str, help: &str) -> Option<Vec<Value<'a>>> {
        let DeValue::Array(array) = self.value else {
            return self.expected(what, help);
        };
        let item = |(index, value): (usize, &'a Spanned<DeValue<'a>>)| Value {
            source: self.source,
            value: value.get_ref(),
            place: self.source.place(value.span().start, format!("{}[{index}]", self.place.key)),
        };
        Some(array.iter().enumerate().map(item).collect())
    }

    /// The text of a string.
    pub fn text(&self) -> Option<&'a str> {
        self.value.as_str()
    }

    /// The value as a message shows it.
    pub fn found(&self) -> String {
        match self.value {
            DeValue::String(text) => quoted(text),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Datetime(_) => "a date".to_owned(),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        }
    }
}

/// A string of the manifest as it is shown in a message: in quotes, and short.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN: usize = 80;

    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// "a, b or c".
pub(super) fn enumerated(names: impl Iterator<Item = String>, before_last: &str) -> String {
    let names: Vec<_> = names.collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} {before_last} {last}", others.join(", ")),
        None => "none".to_owned(),
    }
}

/// A dotted key, with quotes where TOML needs them.
fn join(outer: &str, key: &str) -> String {
    let bare = !key.is_empty()
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let key = if bare { key.to_owned() } else { quoted(key) };
    if outer.is_empty() { key } else { format!("{outer}.{key}") }
}
