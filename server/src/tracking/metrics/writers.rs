//! The writing processes of the batches of a group: what each has stored, and the branch of its run that it logs to.
//!
//! Invariant: a writer logs to the branch that its process began or took up, until it takes its run up again, whatever others do
//! meanwhile; one that never did either logs to the current branch. Pure but for loading and saving.

use std::collections::{BTreeSet, HashMap};

use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::{
    convert::{Batch, Writer},
    group::Job,
    store::{self, Locked, WriterState},
};
use crate::{clock::Timestamp, error::Result, tracking::runs};

/// How far the clocks of a process and of the server may be apart.
const TOLERANCE_US: i64 = 5_000_000;

/// Writers by run and id; whether something of them has changed.
#[derive(Debug, Default)]
pub(super) struct Writers(HashMap<(Uuid, Uuid), (WriterState, bool)>);

impl Writers {
    /// Those of the batches of locked runs.
    pub(super) async fn load<'a>(
        txn: &impl ConnectionTrait,
        locked: &Locked,
        jobs: impl Iterator<Item = &'a Job> + Clone,
    ) -> Result<Self> {
        let mut wanted = BTreeSet::new();
        for batch in jobs.clone().map(|job| &job.batch) {
            if let Some(Writer { id, origin, .. }) = batch.writer {
                wanted.insert((batch.run_id, id));
                wanted.extend(origin.map(|origin| (batch.run_id, origin)));
            }
        }
        let found = store::load_writers(txn, locked, &wanted).await?;
        let known = found
            .into_iter()
            .map(|(writer, state)| (writer, (state, false)));
        let mut writers = Self(known.collect());
        for job in jobs {
            writers.find_joined(txn, locked, job).await?;
        }
        Ok(writers)
    }

    /// Finds the branch of a writer that has joined a run without being named, and is heard of late.
    async fn find_joined(
        &mut self,
        txn: &impl ConnectionTrait,
        locked: &Locked,
        Job { scope, batch }: &Job,
    ) -> Result<()> {
        let has_branches = locked.run(batch.run_id).is_some_and(|run| run.branch > 0);
        let (Some(writer), Some((first, _))) = (batch.writer, batch.times) else {
            return Ok(());
        };
        if !has_branches || !batch.late || !writer.joined || self.knows(batch.run_id, writer) {
            return Ok(());
        }
        let branches = runs::store::load_branches(txn, scope, &[batch.run_id]).await?;
        let at = Timestamp(first.micros().saturating_add(TOLERANCE_US));
        let state = WriterState {
            last: -1,
            branch: runs::branch_before(&branches, at),
        };
        self.0.insert((batch.run_id, writer.id), (state, false));
        Ok(())
    }

    fn knows(&self, run_id: Uuid, Writer { id, origin, .. }: Writer) -> bool {
        let origin = origin.and_then(|origin| self.get(run_id, origin));
        self.get(run_id, id).or(origin).is_some()
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

    /// The branch that the writer of a batch logs to; none: the current one.
    fn branch(&self, run_id: Uuid, Writer { id, origin, .. }: Writer) -> Option<i32> {
        let of_origin = || self.get(run_id, origin?);
        self.get(run_id, id).or_else(of_origin)?.branch
    }

    /// The branch that the batch belongs to, where that is older than the current one of its run.
    pub(super) fn older_branch(&self, locked: &Locked, batch: &Batch) -> Option<i32> {
        let current = locked.run(batch.run_id)?.branch;
        self.branch(batch.run_id, batch.writer?)
            .filter(|branch| *branch < current)
    }

    /// Whether another process has taken up the run that the process of the batch began or took up.
    pub(super) fn is_followed(&self, locked: &Locked, batch: &Batch) -> bool {
        let (Some(run), Some(writer)) = (locked.run(batch.run_id), batch.writer) else {
            return false;
        };
        let is_named = self.branch(batch.run_id, writer).is_some();
        let has_it = |writer| run.writer_id == Some(writer);
        is_named
            && run.writer_id.is_some()
            && !has_it(writer.id)
            && !writer.origin.is_some_and(has_it)
    }

    /// Notes that the batch is stored.
    pub(super) fn note(&mut self, batch: &Batch) {
        if let Some(writer) = batch.writer {
            let state = WriterState {
                last: writer.sequence,
                branch: self.branch(batch.run_id, writer),
            };
            self.0.insert((batch.run_id, writer.id), (state, true));
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
