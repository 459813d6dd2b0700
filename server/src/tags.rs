//! Free labels of resources, stored as one JSON text.
//!
//! Invariant: what was stored passed [`check`]. Runs keep theirs as rows, for search.

use std::collections::{BTreeMap, HashMap};

use mlplat_proto::rules;

use crate::request::Violations;

/// Longest key, in characters, and most labels of one resource.
pub use mlplat_proto::rules::{MAX_LABEL_KEY as MAX_KEY, MAX_LABELS as MAX_COUNT};

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
        violations.parse(format!("{field}[{key:?}]"), rules::label_value(value));
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
