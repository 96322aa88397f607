//! What is wrong with a manifest, and where: shown to the operator as it is.

use std::cmp::Ordering;
use std::error::Error;
use std::fmt;
use std::path::PathBuf;

/// A place in the manifest.
#[derive(Clone, Debug)]
pub struct Place {
    /// The manifest, as the user named it.
    pub file: PathBuf,
    /// From 1; 0 for the file as a whole.
    pub line: usize,
    /// Dotted, such as `apps.hello.component`; empty where no key is meant.
    pub key: String,
}

/// A value and where the manifest gives it. Two are equal when their values are.
#[derive(Clone, Debug)]
pub struct Located<T> {
    pub value: T,
    pub place: Place,
}

/// One thing wrong with the manifest, or with a file it names.
#[derive(Clone, Debug)]
pub struct Problem {
    pub place: Place,
    /// What was expected and what was found; lower case, no full stop.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

/// Everything found wrong, in the order of the file; at least one.
#[derive(Clone, Debug)]
pub struct Problems(pub Vec<Problem>);

impl Place {
    /// The file as a whole, for what has no line.
    pub fn file(file: impl Into<PathBuf>) -> Place {
        Place { file: file.into(), line: 0, key: String::new() }
    }

    /// A problem at this place.
    pub fn problem(&self, message: impl Into<String>) -> Problem {
        Problem { place: self.clone(), message: message.into(), help: None }
    }
}

impl Problem {
    /// The same problem with what to write instead.
    pub fn with_help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }
}

impl<T: PartialEq> PartialEq for Located<T> {
    fn eq(&self, other: &Self) -> bool {
        // An edit that only moves a value to another line is no change.
        self.value == other.value
    }
}

impl<T: Eq> Eq for Located<T> {}

impl<T: Ord> PartialOrd for Located<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Ord> Ord for Located<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.value.cmp(&other.value)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl Error for Problem {}

impl Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Problems {
        Problems(vec![problem])
    }
}
