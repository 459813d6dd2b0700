//! The memory that one join may hold. This file must not know what the memory is for.

use super::{AsOfError, Result};

/// A limit in bytes, with the name of the view for the message.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    pub(super) view: String,
    pub(super) limit: usize,
}

impl Budget {
    /// Fails if `needed` bytes are more than allowed.
    pub(super) fn check(&self, needed: usize) -> Result<()> {
        if needed <= self.limit {
            return Ok(());
        }
        Err(AsOfError::MemoryLimit {
            view: self.view.clone(),
            needed,
            limit: self.limit,
        })
    }
}
