//! A folder of files that a route answers from.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use http::HeaderValue;

use super::hosts::Hosts;
use super::paths::Paths;
use super::problem::Located;
use super::read::{Table, Value};
use super::route::Target;
use super::settings::required_path;

/// Files of a folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Files {
    /// Absolute.
    pub dir: Located<PathBuf>,
    /// The name of the file that answers for a folder.
    pub index: String,
    pub missing: Missing,
    /// Whether `x.js.zst`, `x.js.br` and `x.js.gz` may stand for `x.js`.
    pub precompressed: bool,
    /// The `Cache-Control` of all files but that of [`Missing::NotFound`].
    pub cache_control: Option<HeaderValue>,
}

/// What answers for a file that is not there. Names are relative to the folder.
#[derive(Clone, Debug, PartialEq)]
pub enum Missing {
    /// The usual page.
    Page,
    /// This file, as a 404.
    NotFound(String),
    /// This file, as a 200: for applications that make sense of the path in the browser.
    Fallback(String),
}

/// Reads `"public"` or `{ dir = "public", precompressed = true }`.
pub(super) fn files(value: &Value<'_>) -> Option<Files> {
    if value.text().is_some() {
        return Some(Files {
            dir: value.located_path("public")?,
            index: "index.html".to_owned(),
            missing: Missing::Page,
            precompressed: false,
            cache_control: None,
        });
    }

    let help = "write { dir = \"public\" }";
    let table = value.as_table("a folder or a table with a `dir`", help)?;
    table.read(|table| {
        let dir = required_path(table, "dir", "public");
        let index = table.take("index", |value| {
            let name = name(value, "index.html")?;
            match name.contains('/') {
                true => value.expected("a name without a folder", "write \"index.html\""),
                false => Some(name),
            }
        });
        let not_found = table.take("not_found", |value| name(value, "404.html"));
        let fallback = table.take("fallback", |value| {
            if not_found.is_some() {
                return value.reject(
                    "with `fallback` nothing is missing, so `not_found` is never used",
                    "leave one of them out",
                );
            }
            name(value, "index.html")
        });
        let precompressed = table.take("precompressed", Value::flag);
        let cache_control = table.take("cache_control", |value| {
            let example = "max-age=3600";
            let text = value.string(example)?;
            match HeaderValue::from_str(text).ok().filter(|_| !text.is_empty()) {
                Some(header) => Some(header),
                None => value.expected("a header's value", format!("write \"{example}\"")),
            }
        });

        let missing = match (not_found, fallback) {
            (_, Some(name)) => Missing::Fallback(name),
            (Some(name), None) => Missing::NotFound(name),
            (None, None) => Missing::Page,
        };
        Some(Files {
            dir: dir?,
            index: index.unwrap_or_else(|| "index.html".to_owned()),
            missing,
            precompressed: precompressed.unwrap_or(false),
            cache_control,
        })
    })
}

/// The name of a file in the folder, perhaps below another one.
fn name(value: &Value<'_>, example: &str) -> Option<String> {
    let text = value.string(example)?;
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains('\0');
    match text.split('/').all(plain) {
        true => Some(text.to_owned()),
        false => value.expected(
            "the name of a file in the folder",
            format!("write a name such as \"{example}\", relative to `dir`"),
        ),
    }
}

/// Reports folders that would give away `secrets`, each with what is in it; returns warnings of
/// those that are not there.
///
/// By their names only: links may lead anywhere, and are the operator's.
pub(super) fn check(root: &Table<'_>, hosts: &Hosts, secrets: &[(&Path, &str)]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (_, route) in hosts.paths.values().flat_map(Paths::iter) {
        let Target::Files(files) = &route.target else { continue };
        let Located { value: dir, place } = &files.dir;
        let plain = without_dots(dir);
        let given = secrets.iter().find(|(secret, _)| {
            let secret = without_dots(secret);
            secret.starts_with(&plain) || plain.starts_with(&secret)
        });
        if let Some((_, what)) = given {
            let message = format!("this folder would give away {what}");
            let help = "keep files for clients in a folder of their own, such as \"public\"";
            root.source.report(place.problem(message).with_help(help));
        }
        match fs::metadata(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => warnings
                .push(format!("{}: no such folder yet, so its files are not found", dir.display())),
            Ok(metadata) if !metadata.is_dir() => {
                warnings.push(format!("{} is no folder, so it has no files", dir.display()));
            }
            Ok(_) | Err(_) => {}
        }
    }
    warnings.sort();
    warnings.dedup();
    warnings
}

/// The path without `.` and `..`, as far as that can be told without looking at links.
fn without_dots(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_resolved_in_words() {
        assert_eq!(without_dots(Path::new("/a/./b/../c")), Path::new("/a/c"));
        assert_eq!(without_dots(Path::new("/../..")), Path::new("/"));
    }
}
