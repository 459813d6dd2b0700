//! Whether to see what was deleted.

use mlplat_proto::tracking::v1 as pb;

/// Whether to see what was deleted and can still be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum View {
    /// What is not deleted.
    #[default]
    Active,
    /// What is deleted.
    Deleted,
    /// Both.
    All,
}

impl From<View> for pb::View {
    fn from(view: View) -> Self {
        match view {
            View::Active => Self::ActiveOnly,
            View::Deleted => Self::DeletedOnly,
            View::All => Self::All,
        }
    }
}
