//! The writing processes of the batches of a group: what each has stored, and the branch of its run that it logs to.
//!
//! Invariant: a writer logs to the branch in which it began until it takes its run up again, whatever others do meanwhile. Pure
//! but for loading and saving.

use std::collections::{BTreeSet, HashMap};

use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::{
    convert::{Batch, Writer},
    store::{self, Locked, WriterState},
};
use crate::error::Result;

/// Writers by run and id; whether something of them has changed.
#[derive(Debug, Default)]
pub(super) struct Writers(HashMap<(Uuid, Uuid), (WriterState, bool)>);

impl Writers {
    /// Those of some batches of locked runs.
    pub(super) async fn load<'a>(
        txn: &impl ConnectionTrait,
        locked: &Locked,
        batches: impl Iterator<Item = &'a Batch>,
    ) -> Result<Self> {
        let mut wanted = BTreeSet::new();
        for batch in batches {
            if let Some(Writer { id, origin, .. }) = batch.writer {
                wanted.insert((batch.run_id, id));
                wanted.extend(origin.map(|origin| (batch.run_id, origin)));
            }
        }
        let found = store::load_writers(txn, locked, &wanted).await?;
        Ok(Self(
            found
                .into_iter()
                .map(|(writer, state)| (writer, (state, false)))
                .collect(),
        ))
    }

    fn get(&self, run_id: Uuid, writer: Uuid) -> Option<WriterState> {
        self.0.get(&(run_id, writer)).map(|(state, _)| *state)
    }

    /// The number of the last record that is stored, when that is of the batch, or behind it.
    pub(super) fn stored(&self, batch: &Batch) -> Option<i64> {
        let writer = batch.writer?;
        let last = self.get(batch.run_id, writer.id)?.last;
        (writer.first <= last).then_some(last)
    }

    /// The branch that the batch belongs to, where that is older than the current one of its run.
    pub(super) fn older_branch(&self, locked: &Locked, batch: &Batch) -> Option<i32> {
        let current = locked.run(batch.run_id)?.branch;
        let Writer { id, origin, .. } = batch.writer?;
        let of_origin = || self.get(batch.run_id, origin?);
        let state = self.get(batch.run_id, id).or_else(of_origin)?;
        state.branch.filter(|branch| *branch < current)
    }

    /// Notes that the batch is stored in its branch.
    pub(super) fn note(&mut self, batch: &Batch, branch: i32) {
        if let Some(Writer { id, sequence, .. }) = batch.writer {
            let known = self.get(batch.run_id, id);
            let state = WriterState {
                last: sequence,
                branch: known.map_or(Some(branch), |known| known.branch),
            };
            self.0.insert((batch.run_id, id), (state, true));
        }
    }

    /// Writes what has changed.
    pub(super) async fn save(self, txn: &impl ConnectionTrait, locked: &Locked) -> Result<()> {
        let changed = self
            .0
            .into_iter()
            .filter_map(|(writer, (state, changed))| changed.then_some((writer, state)));
        store::save_writers(txn, locked, changed.collect()).await
    }
}
