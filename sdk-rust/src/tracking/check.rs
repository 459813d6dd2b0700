//! What the server would refuse, found at the call: once a record is in the journal nobody waits for its answer.
//!
//! Invariant: the rules are those of the contract, and all bad fields are reported at once, under the names that the server
//! gives them.

use std::collections::BTreeMap;

use mlplat_proto::rules;

use crate::error::{Error, FieldViolation, Result};

/// The bad fields found so far.
#[derive(Debug, Default)]
pub(super) struct Violations(Vec<FieldViolation>);

impl Violations {
    pub(super) fn check(&mut self, field: impl Into<String>, result: Result<(), String>) {
        if let Err(description) = result {
            self.0.push(FieldViolation {
                field: field.into(),
                description,
            });
        }
    }

    /// Labels or params.
    pub(super) fn labels(&mut self, field: &str, labels: &BTreeMap<String, String>) {
        if labels.len() > rules::MAX_LABELS {
            let count = labels.len();
            let complaint = format!(
                "must hold at most {} entries, has {count}",
                rules::MAX_LABELS
            );
            return self.check(field, Err(complaint));
        }
        for (key, value) in labels {
            let name = format!("{field}[{}]", rules::quoted(key));
            self.check(&name, rules::name(key, rules::MAX_LABEL_KEY));
            self.check(&name, rules::label_value(value));
        }
    }

    pub(super) fn finish(self) -> Result<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Error::all_invalid(self.0))
        }
    }
}

/// Checks labels or params.
pub(super) fn labels(field: &str, labels: &BTreeMap<String, String>) -> Result<()> {
    let mut violations = Violations::default();
    violations.labels(field, labels);
    violations.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let bad = BTreeMap::from([
            ("good".to_owned(), "x".to_owned()),
            (String::new(), "x".to_owned()),
            ("nul".to_owned(), "\0".to_owned()),
        ]);
        let error = labels("params", &bad).unwrap_err();
        let fields: Vec<&str> = error
            .violations()
            .iter()
            .map(|v| v.field.as_str())
            .collect();
        assert_eq!(fields, ["params[\"\"]", "params[\"nul\"]"]);
        assert!(labels("tags", &BTreeMap::new()).is_ok());
    }
}
