//! The life of a model version: DEVELOPMENT <-> STAGING <-> PRODUCTION; each may go to ARCHIVED, and ARCHIVED back to
//! DEVELOPMENT.
//!
//! Invariant: this is the only place that says which move is possible. Pure.

use std::fmt;

use mlplat_proto::catalogue::v1::ModelStage;

use crate::error::{Error, Result};

/// Where a version is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    Development,
    Staging,
    Production,
    Archived,
}

impl Stage {
    const ALL: [Self; 4] = [
        Self::Development,
        Self::Staging,
        Self::Production,
        Self::Archived,
    ];

    /// As it is stored and shown.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Development => "DEVELOPMENT",
            Self::Staging => "STAGING",
            Self::Production => "PRODUCTION",
            Self::Archived => "ARCHIVED",
        }
    }

    /// From what is stored.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == text)
    }

    /// From the wire; `None` where it is not given or not known.
    pub(super) fn from_proto(number: i32) -> Option<Self> {
        match ModelStage::try_from(number).ok()? {
            ModelStage::Unspecified => None,
            ModelStage::Development => Some(Self::Development),
            ModelStage::Staging => Some(Self::Staging),
            ModelStage::Production => Some(Self::Production),
            ModelStage::Archived => Some(Self::Archived),
        }
    }

    /// To the wire.
    pub(super) fn to_proto(self) -> ModelStage {
        match self {
            Self::Development => ModelStage::Development,
            Self::Staging => ModelStage::Staging,
            Self::Production => ModelStage::Production,
            Self::Archived => ModelStage::Archived,
        }
    }

    /// Where a version may go from here.
    fn next(self) -> &'static [Self] {
        match self {
            Self::Development => &[Self::Staging, Self::Archived],
            Self::Staging => &[Self::Development, Self::Production, Self::Archived],
            Self::Production => &[Self::Staging, Self::Archived],
            Self::Archived => &[Self::Development],
        }
    }

    /// Checks a move.
    pub(super) fn check_move(self, to: Self) -> Result<()> {
        if self.next().contains(&to) {
            return Ok(());
        }
        let possible: Vec<&str> = self.next().iter().map(|stage| stage.as_str()).collect();
        Err(Error::precondition(
            "STAGE_TRANSITION_NOT_ALLOWED",
            format!(
                "a version cannot move from {self} to {to}; possible from {self}: {}",
                possible.join(", ")
            ),
        ))
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::{Stage::*, *};

    #[test]
    fn every_move_is_decided() {
        let allowed = [
            (Development, Staging),
            (Staging, Development),
            (Staging, Production),
            (Production, Staging),
            (Development, Archived),
            (Staging, Archived),
            (Production, Archived),
            (Archived, Development),
        ];
        for from in Stage::ALL {
            for to in Stage::ALL {
                assert_eq!(
                    from.check_move(to).is_ok(),
                    allowed.contains(&(from, to)),
                    "{from} -> {to}"
                );
            }
        }
    }

    #[test]
    fn a_refusal_names_what_is_possible() {
        let refusal = Archived.check_move(Production).unwrap_err();
        assert_eq!(refusal.reason(), "STAGE_TRANSITION_NOT_ALLOWED");
        assert_eq!(
            refusal.to_string(),
            "a version cannot move from ARCHIVED to PRODUCTION; possible from ARCHIVED: DEVELOPMENT"
        );
    }

    #[test]
    fn stages_survive_storage_and_wire() {
        for stage in Stage::ALL {
            assert_eq!(Stage::parse(stage.as_str()), Some(stage));
            assert_eq!(Stage::from_proto(stage.to_proto().into()), Some(stage));
        }
        assert_eq!(Stage::from_proto(0), None);
        assert_eq!(Stage::from_proto(99), None);
    }
}
