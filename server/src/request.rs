//! Tools for the first step of every handler: turning a message into values that hold what they claim.
//!
//! Invariant: all bad fields of a request are reported at once. It knows no service and no database.

use std::fmt::Display;

use mlplat_proto::rules;
pub use mlplat_proto::rules::{MAX_DESCRIPTION, quoted};
use prost_types::FieldMask;
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    error::{Error, FieldViolation, Result},
};

/// Name of the project that an empty `project` field means.
pub const DEFAULT_PROJECT: &str = "default";

/// The bad fields found so far.
#[derive(Debug, Default)]
pub struct Violations(Vec<FieldViolation>);

impl Violations {
    /// Nothing found yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a bad field.
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(FieldViolation {
            field: field.into(),
            description: description.into(),
        });
    }

    /// Takes the value of a parser, or notes its complaint.
    pub fn parse<T>(
        &mut self,
        field: impl Into<String>,
        parsed: std::result::Result<T, impl Display>,
    ) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(complaint) => {
                self.add(field, complaint.to_string());
                None
            }
        }
    }

    /// True while no bad field was found.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The end of parsing: an error when anything was found.
    pub fn finish(self) -> Result<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Error::Invalid(self.0))
        }
    }
}

/// A UUID in its canonical text form.
pub fn uuid(text: &str) -> std::result::Result<Uuid, String> {
    Uuid::try_parse(text).map_err(|_| format!("{} is not a UUID", quoted(text)))
}

/// A UUID that may be left out; none where it is, or where it is none and so a violation.
pub fn optional_uuid(violations: &mut Violations, field: &str, text: &str) -> Option<Uuid> {
    match text {
        "" => None,
        given => violations.parse(field, uuid(given)),
    }
}

/// A name: 1 to `max` characters, none of them control characters, no blanks around it.
pub fn name(text: &str, max: usize) -> std::result::Result<String, String> {
    rules::name(text, max).map(|()| text.to_owned())
}

/// Free text of at most `max` characters. NUL is refused, for PostgreSQL cannot store it.
pub fn text(text: &str, max: usize) -> std::result::Result<String, String> {
    rules::text(text, max).map(|()| text.to_owned())
}

/// A point in time on the wire.
pub fn timestamp(at: &prost_types::Timestamp) -> std::result::Result<Timestamp, String> {
    Timestamp::from_proto(at).ok_or_else(|| {
        format!(
            "{}s {}ns is not a time between the years 1 and 9999",
            at.seconds, at.nanos
        )
    })
}

/// The project of a request; empty means `default`. Whether there is one of that name is asked later.
pub fn project_name(text: &str) -> String {
    if text.is_empty() {
        DEFAULT_PROJECT.to_owned()
    } else {
        text.to_owned()
    }
}

/// The fields that an update changes.
#[derive(Debug)]
pub struct Mask(Vec<String>);

impl Mask {
    /// Checks a field mask against the fields that may be changed. It must name at least one.
    pub fn parse(mask: Option<FieldMask>, allowed: &[&str]) -> std::result::Result<Self, String> {
        let paths = mask.unwrap_or_default().paths;
        if paths.is_empty() {
            return Err(format!("must name what to change: {}", allowed.join(", ")));
        }
        match paths.iter().find(|path| !allowed.contains(&path.as_str())) {
            Some(unknown) => Err(format!(
                "{} cannot be changed; possible are: {}",
                quoted(unknown),
                allowed.join(", ")
            )),
            None => Ok(Self(paths)),
        }
    }

    /// True when the field is to be changed.
    pub fn has(&self, field: &str) -> bool {
        self.0.iter().any(|path| path == field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bad_fields_at_once() {
        let mut violations = Violations::new();
        assert_eq!(violations.parse("name", name("", 10)), None);
        assert_eq!(violations.parse("run_id", uuid("x")), None);
        let Err(Error::Invalid(found)) = violations.finish() else {
            panic!("must be invalid")
        };
        assert_eq!(
            found.iter().map(|v| v.field.as_str()).collect::<Vec<_>>(),
            ["name", "run_id"]
        );
    }

    #[test]
    fn names() {
        assert!(name("a b", 3).is_ok());
        for bad in ["", "a b c", " a", "a\n"] {
            assert!(name(bad, 3).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn masks() {
        let mask = |paths: &[&str]| {
            Some(FieldMask {
                paths: paths.iter().map(ToString::to_string).collect(),
            })
        };
        assert!(
            Mask::parse(mask(&["tags"]), &["tags", "description"])
                .is_ok_and(|m| m.has("tags") && !m.has("description"))
        );
        assert!(Mask::parse(mask(&[]), &["tags"]).is_err());
        assert!(Mask::parse(mask(&["name"]), &["tags"]).is_err());
    }
}
