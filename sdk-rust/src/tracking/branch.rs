//! Branches: how a run was resumed from earlier steps.

use std::time::SystemTime;

use mlplat_proto::tracking::v1 as pb;

use crate::convert::filled_time;

/// One line of a run's history. A run that is resumed from an earlier step goes on in a new branch; what the old one logged
/// from that step on stays readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunBranch {
    /// 1 and up, 0 being the one that the run began with; the greatest is the current one.
    pub number: u32,
    /// Branch whose points below `from_step` this one shares.
    pub parent: u32,
    /// First step that is its own.
    pub from_step: i64,
    /// When it was begun.
    pub created_at: SystemTime,
}

impl From<pb::RunBranch> for RunBranch {
    fn from(branch: pb::RunBranch) -> Self {
        Self {
            number: branch.number,
            parent: branch.parent,
            from_step: branch.from_step,
            created_at: filled_time(branch.created_at),
        }
    }
}
