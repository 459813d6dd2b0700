//! Whether to see what was deleted and can still be restored.

use mlplat_proto::tracking::v1 as pb;
use sea_orm::{ColumnTrait, sea_query::Expr};

/// What is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum View {
    #[default]
    Active,
    Deleted,
    All,
}

impl View {
    /// From the wire, where nothing means what is not deleted.
    pub(crate) fn parse(view: i32) -> std::result::Result<Self, String> {
        match pb::View::try_from(view) {
            Ok(pb::View::Unspecified | pb::View::ActiveOnly) => Ok(Self::Active),
            Ok(pb::View::DeletedOnly) => Ok(Self::Deleted),
            Ok(pb::View::All) => Ok(Self::All),
            Err(_) => Err(format!(
                "{view} is none of ACTIVE_ONLY, DELETED_ONLY and ALL"
            )),
        }
    }

    /// The condition on the column that says when a row was deleted.
    pub(crate) fn condition(self, deleted_at: impl ColumnTrait) -> Option<Expr> {
        match self {
            Self::Active => Some(deleted_at.is_null()),
            Self::Deleted => Some(deleted_at.is_not_null()),
            Self::All => None,
        }
    }

    /// Whether a row is seen.
    pub(crate) fn shows(self, deleted_at: Option<i64>) -> bool {
        match self {
            Self::Active => deleted_at.is_none(),
            Self::Deleted => deleted_at.is_some(),
            Self::All => true,
        }
    }
}
