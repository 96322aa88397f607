//! The manifest's text as TOML, before any of it has a meaning.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeTable;

use super::problem::Problem;
use super::read::Source;

/// The text as TOML; a key given twice is a problem among others, any other fault the only one.
pub(super) fn parse<'t>(
    source: &Source<'_>,
    text: &'t str,
) -> Result<Spanned<DeTable<'t>>, Problem> {
    let (tree, errors) = DeTable::parse_recoverable(text);

    // After a fault of syntax the parser guesses, and what it then finds is seldom wrong by itself.
    let duplicate = |error: &toml::de::Error| error.message() == "duplicate key";
    if let Some(error) = errors.iter().find(|error| !duplicate(error)) {
        let offset = error.span().unwrap_or_default().start;
        return Err(source.place(offset, String::new()).problem(error.message()));
    }

    for span in errors.iter().filter_map(toml::de::Error::span) {
        let key = dotted_key(text, span.clone());
        let problem = source.place(span.start, key).problem("this key is given twice");
        source.report(problem.with_help("leave one of them out"));
    }
    Ok(tree)
}

/// The key at `span` as its table's header completes it, as far as the lines tell.
fn dotted_key(text: &str, span: Range<usize>) -> String {
    let (Some(before), Some(key)) = (text.get(..span.start), text.get(span)) else {
        return String::new();
    };

    let own_line = before.rsplit('\n').next().unwrap_or_default().trim_start();
    let table = if own_line.is_empty() {
        let mut lines = before.lines().rev().map(str::trim_start);
        let header = lines.find_map(|line| line.strip_prefix('['));
        header.and_then(|header| header.split_once(']')).map_or("", |(table, _)| table)
    } else {
        own_line.trim_start_matches('[').trim_end_matches('.')
    };
    let is_path = !table.is_empty() && !table.contains(['=', '{', '[', '#']);
    if is_path { format!("{table}.{key}") } else { key.to_owned() }
}
