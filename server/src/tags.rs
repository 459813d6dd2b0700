//! Free labels of resources, stored as one JSON text.
//!
//! Invariant: what was stored passed [`check`]. Runs keep theirs as rows, for search.

use std::collections::{BTreeMap, HashMap};

use crate::request::Violations;

/// Longest key, in characters.
pub const MAX_KEY: usize = 250;
/// Longest value, in bytes.
pub const MAX_VALUE: usize = 64 * 1024;
/// Most labels of one resource.
pub const MAX_COUNT: usize = 10_000;

/// Notes labels that are too many, too long or cannot be stored.
pub fn check(violations: &mut Violations, field: &str, tags: &HashMap<String, String>) {
    if tags.len() > MAX_COUNT {
        violations.add(
            field,
            format!("must hold at most {MAX_COUNT} entries, has {}", tags.len()),
        );
        return;
    }
    for (key, value) in tags {
        violations.parse(
            format!("{field}[{}]", crate::request::quoted(key)),
            crate::request::name(key, MAX_KEY),
        );
        if value.len() > MAX_VALUE {
            violations.add(
                format!("{field}[{key:?}]"),
                format!("must have at most {MAX_VALUE} bytes, has {}", value.len()),
            );
        }
        if value.contains('\0') {
            violations.add(format!("{field}[{key:?}]"), "must not hold NUL characters");
        }
    }
}

/// As stored: keys in order, so that equal labels are equal text.
pub fn to_json(tags: &HashMap<String, String>) -> String {
    let sorted: BTreeMap<_, _> = tags.iter().collect();
    serde_json::to_string(&sorted).unwrap_or_else(|_| "{}".to_owned())
}

/// From the stored text.
pub fn from_json(text: &str) -> HashMap<String, String> {
    serde_json::from_str(text).unwrap_or_default()
}
