//! What the small numbers mean in records that are copied from another journal.
//!
//! Invariant: a definition stands once in a segment, before the first record that needs it. The numbers stay those of the
//! journal that is copied, so there is one such journal for a writer, which logs nothing of its own. Where segments begin is
//! not known here. Pure.

use std::collections::BTreeMap;

use super::record::{self, Id, RunDefinition};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Defined {
    Run(Id),
    Key(Id),
}

/// The definition of a run or a metric key.
#[derive(Debug)]
pub(super) struct Definition {
    of: Defined,
    frame: Vec<u8>,
}

impl Definition {
    pub(super) fn run(id: Id, run: RunDefinition) -> Self {
        let mut frame = Vec::new();
        record::put_run(&mut frame, id, run);
        Self {
            of: Defined::Run(id),
            frame,
        }
    }

    pub(super) fn key(id: Id, key: &str) -> Self {
        let mut frame = Vec::new();
        record::put_key(&mut frame, id, key);
        Self {
            of: Defined::Key(id),
            frame,
        }
    }
}

/// The definitions that were written: their frames, and the epochs of the last time.
#[derive(Debug, Default)]
pub(super) struct Copied(BTreeMap<Defined, (Vec<u8>, u64)>);

impl Copied {
    /// Writes a definition, unless it is there in this epoch.
    pub(super) fn put(&mut self, buffer: &mut Vec<u8>, epoch: u64, definition: Definition) {
        let written = (definition.frame, epoch);
        if self.0.get(&definition.of) != Some(&written) {
            buffer.extend_from_slice(&written.0);
            self.0.insert(definition.of, written);
        }
    }

    /// Writes all of them, before records that were to follow them in another segment.
    pub(super) fn put_all(&mut self, buffer: &mut Vec<u8>, epoch: u64) {
        for (frame, written) in self.0.values_mut() {
            buffer.extend_from_slice(frame);
            *written = epoch;
        }
    }
}
