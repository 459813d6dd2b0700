//! The materialization of one view.

use std::{
    ops::Bound,
    time::{Duration, Instant},
};

use futures::TryStreamExt as _;
use mlplat_proto::{common::v1::TimeRange, features::v1 as pb};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::Work;
use crate::{
    clock::Timestamp,
    error::Result,
    features::{
        asof::{FeatureSide, Latest},
        definitions::View,
        instant::{self, Window},
        online::{self, KeyEncoder, Layout, TableId},
        retrieval::source_datasets,
        scan,
        sources::{Session, asof_error},
        store,
    },
    lineage::{self, EventType, Names, RunEvent},
};

const REPORT_EVERY: Duration = Duration::from_millis(500);
/// Rows held before they are written. What a view with few keys holds is less.
const FLUSH_BYTES: usize = 64 << 20;
/// Rows of one write, which others wait for.
const WRITE_ROWS: usize = 50_000;

/// Materializes a view, with reports.
pub(super) async fn materialize(
    work: &Work,
    view: &View,
    sender: &mpsc::Sender<pb::MaterializeResponse>,
) -> Result<()> {
    let app = &work.features.app;
    let started_at = app.now();
    let name = view.definition.name.as_str();
    let shape = online::shape(view);
    let covered = store::covered_until(app.db.read(), &work.scope, name, &shape).await?;
    let plan = Plan::of(work.window, covered, started_at);
    let mut session = work.features.session(work.catalog.clone())?;
    let features: Vec<String> = view
        .definition
        .features
        .iter()
        .map(|f| f.name.clone())
        .collect();
    let scan = scan::open(&mut session, view, &features).await?;
    let scan = scan.within(plan.window)?;
    let mut copy = Copy::begin(work, view, scan.side.clone(), &plan, sender).await?;
    let mut rows = scan.rows().await?;
    let copied = async {
        while let Some(batch) = rows.try_next().await? {
            copy.push(&batch).await?;
        }
        copy.flush().await
    }
    .await;
    // A file that was replaced under our hands fails in many ways; the reason is this one.
    session.pins().recheck(&work.features.sources).await?;
    copied?;
    finish(work, view, &session, &plan, (&shape, started_at)).await?;
    let mut report = copy.report;
    report.done = true;
    // Nobody listens only when the client is gone.
    let _ = sender.send(report).await;
    Ok(())
}

/// Which event times are copied.
#[derive(Debug, PartialEq)]
struct Plan {
    window: Window,
    /// The end of what is covered afterwards; `None` when there would be a gap before it.
    covers_until: Option<Timestamp>,
}

impl Plan {
    fn of(asked: Window, covered: Option<Timestamp>, now: Timestamp) -> Self {
        let to_nanos = |at: Timestamp| i128::from(at.micros()) * 1_000;
        let end = match asked.1 {
            Bound::Included(end) | Bound::Excluded(end) => end,
            Bound::Unbounded => to_nanos(now),
        };
        let covered_nanos = covered.map(to_nanos);
        let (start, continues) = match (asked.0, covered_nanos) {
            (Bound::Included(start) | Bound::Excluded(start), covered) => (
                Bound::Included(start),
                covered.is_some_and(|covered| start <= covered),
            ),
            (Bound::Unbounded, Some(covered)) => (Bound::Included(covered.min(end)), true),
            (Bound::Unbounded, None) => (Bound::Unbounded, true),
        };
        let until = i64::try_from(end.div_euclid(1_000)).unwrap_or(i64::MAX);
        Self {
            window: (start, Bound::Included(end)),
            covers_until: continues.then_some(Timestamp(until)),
        }
    }

    fn range(&self) -> TimeRange {
        let at = |bound: Bound<i128>| match bound {
            Bound::Included(at) | Bound::Excluded(at) => Some(instant::timestamp(at)),
            Bound::Unbounded => None,
        };
        TimeRange {
            start: at(self.window.0),
            end: at(self.window.1),
        }
    }
}

/// A copy under way.
struct Copy<'a> {
    work: &'a Work,
    side: FeatureSide,
    latest: Latest,
    encoder: KeyEncoder,
    table: TableId,
    layout: u64,
    sender: &'a mpsc::Sender<pb::MaterializeResponse>,
    report: pb::MaterializeResponse,
    reported: Instant,
}

impl<'a> Copy<'a> {
    async fn begin(
        work: &'a Work,
        view: &View,
        side: FeatureSide,
        plan: &Plan,
        sender: &'a mpsc::Sender<pb::MaterializeResponse>,
    ) -> Result<Self> {
        let limit = work.features.app.config.limits.query_memory_bytes;
        let latest = Latest::new(&side, plan.window, limit).map_err(|e| asof_error(&e))?;
        let table = TableId::of(work.scope.project_id(), view);
        let layout = Layout::of(view);
        let id = layout.id();
        work.features.online.put_layout(&table, layout).await?;
        Ok(Self {
            encoder: online::key_encoder(&view.definition.name, &view.key_types)?,
            report: pb::MaterializeResponse {
                feature_view: view.definition.name.clone(),
                window: Some(plan.range()),
                ..Default::default()
            },
            layout: id,
            reported: Instant::now(),
            work,
            side,
            latest,
            table,
            sender,
        })
    }

    async fn push(&mut self, batch: &arrow::array::RecordBatch) -> Result<()> {
        self.latest.push(batch).map_err(|e| asof_error(&e))?;
        self.report.rows_read += batch.num_rows() as u64;
        let limit = self.work.features.app.config.limits.query_memory_bytes;
        if self.latest.retained_bytes() > FLUSH_BYTES.min(limit / 2) {
            self.flush().await?;
        }
        self.tell();
        Ok(())
    }

    /// Writes what is held, in the order of the keys, which is that of the store.
    async fn flush(&mut self) -> Result<()> {
        let mut rows = Vec::new();
        for batch in self.latest.take().map_err(|e| asof_error(&e))? {
            let tag = (self.table.origin, self.layout);
            rows.extend(online::encode_rows(&self.encoder, &self.side, tag, &batch)?);
        }
        rows.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut rows = rows.into_iter();
        while rows.len() > 0 {
            let part: Vec<_> = rows.by_ref().take(WRITE_ROWS).collect();
            let written = part.len() as u64;
            self.work.features.online.write(&self.table, part).await?;
            self.report.keys_written += written;
            self.tell();
        }
        Ok(())
    }

    /// Reports now and then. A report that finds no place is left out; the next one says more anyway.
    fn tell(&mut self) {
        if self.reported.elapsed() >= REPORT_EVERY {
            self.reported = Instant::now();
            let _ = self.sender.try_send(self.report.clone());
        }
    }
}

/// Stores watermark and lineage.
async fn finish(
    work: &Work,
    view: &View,
    session: &Session,
    plan: &Plan,
    (shape, started_at): (&str, Timestamp),
) -> Result<()> {
    let app = &work.features.app;
    let name = view.definition.name.as_str();
    let names = Names::new(&app.instance, work.scope.project());
    let mut inputs = vec![names.feature_view(name, view.version())];
    inputs.extend(source_datasets(&names, session));
    let run_id = Uuid::now_v7();
    let txn = app.db.begin().await?;
    let now = app.now();
    for (event_type, at) in [(EventType::Start, started_at), (EventType::Complete, now)] {
        let mut event = RunEvent::new(event_type, run_id, names.materialize(name), at)
            .inputs(inputs.clone())
            .outputs(vec![names.online(name)]);
        if let Some((run_id, experiment)) = &work.run {
            event = event.parent(*run_id, &names.experiment(experiment));
        }
        lineage::store::record(&txn, &work.scope, &event, now).await?;
    }
    if let Some(until) = plan.covers_until {
        store::cover_until(&txn, &work.scope, name, shape, until, now).await?;
    }
    txn.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNBOUNDED: Window = (Bound::Unbounded, Bound::Unbounded);

    #[test]
    fn the_first_one_begins_at_the_beginning_and_the_next_where_it_ended() {
        let first = Plan::of(UNBOUNDED, None, Timestamp(10));
        assert_eq!(first.window, (Bound::Unbounded, Bound::Included(10_000)));
        assert_eq!(first.covers_until, Some(Timestamp(10)));
        let next = Plan::of(UNBOUNDED, Some(Timestamp(10)), Timestamp(20));
        assert_eq!(
            next.window,
            (Bound::Included(10_000), Bound::Included(20_000))
        );
        assert_eq!(next.covers_until, Some(Timestamp(20)));
    }

    #[test]
    fn a_window_with_a_gap_before_it_does_not_move_the_watermark() {
        let asked = (Bound::Included(15_000), Bound::Included(30_000));
        assert_eq!(
            Plan::of(asked, Some(Timestamp(10)), Timestamp(99)).covers_until,
            None
        );
        assert_eq!(Plan::of(asked, None, Timestamp(99)).covers_until, None);
        let touching = Plan::of(asked, Some(Timestamp(15)), Timestamp(99));
        assert_eq!(touching.covers_until, Some(Timestamp(30)));
    }
}
