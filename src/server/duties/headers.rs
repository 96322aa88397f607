//! Changes to headers.

use http::{HeaderMap, HeaderName};

use crate::config::HeaderRules;
use crate::server::request::dashed;

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

/// The same of a request, whose client may send what is changed under a name that means the same
/// to its guest, see [`dashed`].
pub fn apply_to_request(rules: &HeaderRules, headers: &mut HeaderMap) {
    let set = rules.set.iter().map(|(name, _)| name);
    let changed: Vec<&HeaderName> = rules.remove.iter().chain(set).collect();
    let is_twin = |name: &HeaderName| {
        dashed(name.as_str()).is_some_and(|twin| changed.iter().any(|name| name.as_str() == twin))
    };
    let twins: Vec<HeaderName> = headers.keys().filter(|name| is_twin(name)).cloned().collect();
    for name in twins {
        headers.remove(name);
    }
    apply(rules, headers);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_changed_of_a_request_is_not_sent_with_underscores() {
        let rules = HeaderRules {
            remove: vec![HeaderName::from_static("x-role")],
            set: vec![("x-tenant-id".parse().unwrap(), "north".parse().unwrap())],
            add: Vec::new(),
        };
        let mut headers = HeaderMap::new();
        for name in ["x_role", "x-tenant_id", "x_tenant_id", "x_other"] {
            headers.append(HeaderName::from_static(name), "theirs".parse().unwrap());
        }
        apply_to_request(&rules, &mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["x-tenant-id", "x_other"]);
    }
}
