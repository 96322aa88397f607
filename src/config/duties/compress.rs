//! Which codings a route's answers may be compressed with.

use crate::config::read::Value;

/// A content coding, as clients name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Coding {
    Zstd,
    Br,
    Gzip,
}

impl Coding {
    /// All of them, those first that are chosen where a client likes several alike.
    pub const ALL: [Coding; 3] = [Coding::Zstd, Coding::Br, Coding::Gzip];

    pub const fn name(self) -> &'static str {
        match self {
            Coding::Zstd => "zstd",
            Coding::Br => "br",
            Coding::Gzip => "gzip",
        }
    }
}

/// Reads `true`, `false`, or a list of codings, those that are liked best first.
pub(super) fn compress(value: &Value<'_>) -> Option<Vec<Coding>> {
    let what = "true, false or a list of codings";
    let help = "write true, or [\"zstd\", \"br\", \"gzip\"]";
    match value.value.as_bool() {
        Some(true) => return Some(Coding::ALL.to_vec()),
        Some(false) => return Some(Vec::new()),
        None => {}
    }
    let items = value.as_list(what, help)?;
    if items.is_empty() {
        return value.reject("the list is empty", "write false for no compression");
    }
    let mut codings = Vec::new();
    let mut complete = true;
    for item in items {
        match item.one_of(&Coding::ALL.map(|coding| (coding.name(), coding))) {
            Some(coding) if codings.contains(&coding) => {
                item.reject::<()>(format!("{} is given twice", coding.name()), "leave one out");
                complete = false;
            }
            Some(coding) => codings.push(coding),
            None => complete = false,
        }
    }
    complete.then_some(codings)
}
