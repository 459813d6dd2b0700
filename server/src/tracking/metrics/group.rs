//! Group commit: what several batches do, in one transaction.
//!
//! Invariant: a batch is refused before anything of it is written, so that one that is refused does no harm to the others; and
//! what a batch finds is what the batches before it leave, as if each had its own transaction. Runs are locked in the order of
//! their ids, so that groups never wait for each other in a circle.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mlplat_proto::tracking::v1 as pb;
use sea_orm::{ConnectionTrait, DatabaseTransaction, TransactionTrait as _};
use uuid::Uuid;

use super::{
    append::{Appender, StepsUsedUp},
    compact::WORTH,
    convert::Batch,
    late::{self, LateKeys, LateSeries},
    store::{self, Locked},
    writers::Writers,
};
use crate::{
    app::App,
    auth::Scope,
    clock::Timestamp,
    error::{Error, Result},
    tracking::{
        entity::run,
        runs::{self, texts::KnownKeys},
    },
};

/// Most metric keys of a run, and most bytes of them, so that with its params and tags it always fits into one message.
const MAX_KEYS: usize = 100_000;
const MAX_KEY_BYTES: usize = 32 << 20;

/// A batch whose caller may write to the project of its run.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) scope: Scope,
    pub(super) batch: Batch,
}

/// What became of a batch.
pub(super) type Outcome = Result<pb::LogBatchResponse>;

/// Stores the batches; one outcome each. An error means that nothing of any of them is stored. `due` gets the series that have
/// come to have many chunks, each with the number of a batch of its run.
pub(super) async fn store_group(
    app: &App,
    jobs: &[Job],
    due: &mut Vec<(usize, Uuid)>,
) -> Result<Vec<Outcome>> {
    let now = app.now();
    let txn = app.db.begin().await?;
    let wanted: Vec<(&Scope, Uuid)> = jobs
        .iter()
        .map(|job| (&job.scope, job.batch.run_id))
        .collect();
    let locked = store::lock_runs(&txn, &wanted).await?;
    let mut group = Group::load(&txn, &locked, jobs).await?;
    let mut outcomes = Vec::with_capacity(jobs.len());
    for job in jobs {
        outcomes.push(group.take(app, &txn, &locked, job, now).await?);
    }
    let scattered = group.save(app, &txn, &locked, now).await?;
    txn.commit().await?;
    due.extend(scattered.into_iter().filter_map(|(run_id, series_id)| {
        let job = jobs.iter().position(|job| job.batch.run_id == run_id)?;
        Some((job, series_id))
    }));
    Ok(outcomes)
}

/// An error of one batch, or of the transaction and so of all.
enum Failed {
    Batch(Error),
    Group(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Group(error)
    }
}

/// How many metric keys a run has.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Keys {
    pub(super) count: usize,
    pub(super) bytes: usize,
}

/// What the group has come to.
struct Group<'a> {
    /// Series that batches of the group append to.
    series: BTreeMap<(Uuid, &'a str), Appender>,
    /// Those of them that their run does not have yet.
    new: BTreeSet<(Uuid, &'a str)>,
    /// What the runs have that get new ones.
    keys: HashMap<Uuid, Keys>,
    /// Series of older branches, which writers that come late append to.
    late: BTreeMap<(Uuid, i32, &'a str), LateSeries>,
    writers: Writers,
    /// Runs that something was stored for; true where it tells of the present.
    touched: BTreeMap<Uuid, (&'a Scope, bool)>,
}

impl<'a> Group<'a> {
    /// The state that the batches find.
    async fn load(
        txn: &impl ConnectionTrait,
        locked: &Locked,
        jobs: &'a [Job],
    ) -> Result<Group<'a>> {
        let mut keys: BTreeMap<Uuid, BTreeSet<&str>> = BTreeMap::new();
        for job in jobs.iter().filter(|job| locked.of(job).is_some()) {
            let batch = &job.batch;
            let of_run = keys.entry(batch.run_id).or_default();
            of_run.extend(batch.series.keys().map(String::as_str));
        }
        let jobs_of_locked = jobs.iter().filter(|job| locked.of(job).is_some());
        let writers = Writers::load(txn, locked, jobs_of_locked).await?;
        let mut bases = store::load_bases(txn, locked, &keys).await?;
        let mut series = BTreeMap::new();
        let mut new = BTreeSet::new();
        for (run_id, keys) in keys {
            let branch = locked.run(run_id).map_or(0, |run| run.branch);
            for key in keys {
                let base = bases.remove(&(run_id, key.to_owned()));
                if base.is_none() {
                    new.insert((run_id, key));
                }
                let base = base.unwrap_or_default();
                series.insert((run_id, key), Appender::new(run_id, key, branch, base));
            }
        }
        let growing: BTreeSet<Uuid> = new.iter().map(|(run_id, _)| *run_id).collect();
        let keys = store::count_keys(txn, locked, growing).await?;
        let late = load_late(txn, locked, jobs, &writers, &series).await?;
        Ok(Self {
            series,
            new,
            keys,
            late,
            writers,
            touched: BTreeMap::new(),
        })
    }

    /// Takes up one batch. The error is one of the transaction.
    async fn take(
        &mut self,
        app: &App,
        txn: &DatabaseTransaction,
        locked: &Locked,
        job: &'a Job,
        now: Timestamp,
    ) -> Result<Outcome> {
        match self.try_take(app, txn, locked, job, now).await {
            Ok(response) => Ok(Ok(response)),
            Err(Failed::Batch(error)) => Ok(Err(error)),
            Err(Failed::Group(error)) => Err(error),
        }
    }

    async fn try_take(
        &mut self,
        app: &App,
        txn: &DatabaseTransaction,
        locked: &Locked,
        job: &'a Job,
        now: Timestamp,
    ) -> std::result::Result<pb::LogBatchResponse, Failed> {
        let batch = &job.batch;
        if locked.of(job).is_none() {
            return Err(Failed::Batch(Error::not_found("run", batch.run_id)));
        }
        if let Some(stored) = self.writers.stored(batch) {
            return Ok(pb::LogBatchResponse {
                replayed: true,
                stored_sequence: stored.try_into().unwrap_or_default(),
            });
        }
        let older = self.writers.older_branch(locked, batch);
        for (key, pieces) in &batch.series {
            if let Some(appender) = self.appender(batch.run_id, older, key) {
                appender.check(pieces).map_err(|refused: StepsUsedUp| {
                    let field = format!("metrics[{key}].steps");
                    Failed::Batch(Error::invalid(field, refused.to_string()))
                })?;
            }
        }
        let (new, keys) = self.new_keys(batch)?;
        let is_left_behind = batch.late && self.writers.is_followed(locked, batch);
        let known = match older {
            None if !is_left_behind => KnownKeys::Change,
            _ => KnownKeys::Stay,
        };
        set_texts(txn, job, known).await?;
        for key in new {
            self.new.remove(&(batch.run_id, key));
        }
        self.keys.insert(batch.run_id, keys);
        for (key, pieces) in &batch.series {
            if let Some(appender) = self.appender(batch.run_id, older, key) {
                appender.push(pieces).map_err(Error::internal)?;
            }
        }
        self.writers.note(batch);
        let (_, live) = self
            .touched
            .entry(batch.run_id)
            .or_insert((&job.scope, false));
        *live |= older.is_none() && !batch.late && is_live(app, batch, now);
        Ok(pb::LogBatchResponse {
            replayed: false,
            stored_sequence: batch
                .writer
                .and_then(|writer| writer.sequence.try_into().ok())
                .unwrap_or_default(),
        })
    }

    /// The keys of the batch that its run does not have yet, and what the run has with them; refused when that is too much.
    fn new_keys<'b>(&self, batch: &'b Batch) -> std::result::Result<(Vec<&'b str>, Keys), Failed> {
        let mut keys = self.keys.get(&batch.run_id).copied().unwrap_or_default();
        let of_batch = batch.series.keys().map(String::as_str);
        let new: Vec<&str> = of_batch
            .filter(|key| self.new.contains(&(batch.run_id, *key)))
            .collect();
        keys.count += new.len();
        keys.bytes += new.iter().map(|key| key.len()).sum::<usize>();
        let text = if new.is_empty() {
            return Ok((new, keys));
        } else if keys.count > MAX_KEYS {
            let count = keys.count;
            format!("the run would have {count} metric keys; at most {MAX_KEYS} are possible")
        } else if keys.bytes > MAX_KEY_BYTES {
            let bytes = keys.bytes;
            format!(
                "the metric keys of the run would have {bytes} bytes; at most {MAX_KEY_BYTES} are possible"
            )
        } else {
            return Ok((new, keys));
        };
        Err(Failed::Batch(Error::invalid("metrics", text)))
    }

    /// Where points of a series go to: its current branch, or an older one.
    fn appender(
        &mut self,
        run_id: Uuid,
        older: Option<i32>,
        key: &'a str,
    ) -> Option<&mut Appender> {
        match older {
            Some(branch) => {
                let late = self.late.get_mut(&(run_id, branch, key));
                late.map(|late| &mut late.appender)
            }
            None => self.series.get_mut(&(run_id, key)),
        }
    }

    /// Writes what the batches came to. Gives series, with their runs, that have come to have many chunks.
    async fn save(
        mut self,
        app: &App,
        txn: &impl ConnectionTrait,
        locked: &Locked,
        now: Timestamp,
    ) -> Result<Vec<(Uuid, Uuid)>> {
        let mut series = Vec::with_capacity(self.series.len());
        let mut chunks = Vec::with_capacity(self.series.len());
        let mut scattered = Vec::new();
        for ((run_id, _, key), late) in self.late {
            if let Some(shown) = self.series.get_mut(&(run_id, key)) {
                let new = late.finish(shown)?;
                if !new.is_empty() {
                    scattered.push((run_id, shown.series_id()));
                }
                chunks.extend(new);
            }
        }
        for appender in self.series.into_values() {
            let (before, changed) = (appender.tail_number(), appender.is_changed());
            let (row, new) = appender.finish();
            if changed || !new.is_empty() {
                if is_due(before, row.tail_number) {
                    scattered.push((row.run_id, row.id));
                }
                series.push(row);
                chunks.extend(new);
            }
        }
        store::save_series(txn, locked, series).await?;
        store::save_chunks(txn, locked, chunks).await?;
        self.writers.save(txn, locked).await?;
        let ids: Vec<Uuid> = self.touched.keys().copied().collect();
        store::touch(txn, locked, &ids, now).await?;
        for (run_id, (scope, live)) in self.touched {
            if let Some(run) = locked.run(run_id).filter(|_| live) {
                runs::heard_of(app, txn, scope, run.clone(), now).await?;
            }
        }
        Ok(scattered)
    }
}

/// The series of older branches that batches belong to.
async fn load_late<'a>(
    txn: &impl ConnectionTrait,
    locked: &Locked,
    jobs: &'a [Job],
    writers: &Writers,
    series: &BTreeMap<(Uuid, &'a str), Appender>,
) -> Result<BTreeMap<(Uuid, i32, &'a str), LateSeries>> {
    let mut wanted: BTreeMap<(Uuid, i32), (&Scope, LateKeys<'a>)> = BTreeMap::new();
    for job in jobs.iter().filter(|job| locked.of(job).is_some()) {
        let batch = &job.batch;
        if let Some(branch) = writers.older_branch(locked, batch) {
            let place = wanted.entry((batch.run_id, branch));
            let (_, keys) = place.or_insert((&job.scope, LateKeys::new()));
            for (key, pieces) in &batch.series {
                *keys.entry(key.as_str()).or_default() |= late::counts_on(pieces);
            }
        }
    }
    let mut found = BTreeMap::new();
    for ((run_id, branch), (scope, keys)) in wanted {
        let id = |key: &str| series.get(&(run_id, key)).map(Appender::series_id);
        let ids = keys
            .keys()
            .filter_map(|key| Some((*key, id(key)?)))
            .collect();
        let loaded = late::load(txn, scope, locked, (run_id, branch), keys, &ids).await?;
        found.extend(
            loaded
                .into_iter()
                .map(|(key, late)| ((run_id, branch, key), late)),
        );
    }
    Ok(found)
}

/// Whether the number of chunks has come to a multiple of what is worth merging.
fn is_due(before: i64, after: i64) -> bool {
    let worth = i64::try_from(WORTH).unwrap_or(i64::MAX);
    before.div_euclid(worth) != after.div_euclid(worth) && before >= 0
}

/// Sets the params and tags of a batch. When they are refused, nothing of them stays.
async fn set_texts(
    txn: &DatabaseTransaction,
    job: &Job,
    known: KnownKeys,
) -> std::result::Result<(), Failed> {
    let batch = &job.batch;
    if batch.params.is_empty() && batch.tags.is_empty() {
        return Ok(());
    }
    let savepoint = txn.begin().await.map_err(Error::from)?;
    let set = async {
        runs::texts::set_params(&savepoint, &job.scope, batch.run_id, &batch.params, known).await?;
        runs::texts::set_tags(&savepoint, &job.scope, batch.run_id, &batch.tags, known).await
    };
    match set.await {
        Ok(()) => Ok(savepoint.commit().await.map_err(Error::from)?),
        Err(refused @ Error::Invalid(_)) => {
            savepoint.rollback().await.map_err(Error::from)?;
            Err(Failed::Batch(refused))
        }
        Err(error) => Err(Failed::Group(error)),
    }
}

/// Whether the batch tells of what happened just now. What a journal delivers late is no sign of life.
fn is_live(app: &App, batch: &Batch, now: Timestamp) -> bool {
    let timeout = i64::from(app.config.tracking.heartbeat_timeout_s) * 1_000_000;
    batch
        .times
        .is_some_and(|(_, newest)| newest.micros() >= now.micros() - timeout)
}

impl Locked {
    /// The run of a job, where its caller may see it.
    fn of(&self, job: &Job) -> Option<&run::Model> {
        self.run(job.batch.run_id)
            .filter(|run| run.project_id == job.scope.project_id())
    }
}
