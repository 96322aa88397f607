//! Changes to headers.

use http::HeaderMap;

use crate::config::HeaderRules;

/// Makes the changes: what is removed first may be set then, and what is set may be added to.
pub fn apply(rules: &HeaderRules, headers: &mut HeaderMap) {
    for name in &rules.remove {
        headers.remove(name);
    }
    for (name, value) in &rules.set {
        headers.insert(name, value.clone());
    }
    for (name, value) in &rules.add {
        headers.append(name, value.clone());
    }
}
