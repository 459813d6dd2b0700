//! ReadMetricHistory: points of series by step, then as logged, streamed in parts.
//!
//! Invariant: only chunks that overlap in steps are in memory together, and the answer holds what was stored when the series
//! was opened: chunks grow at their end only, so what a batch adds meanwhile is cut off by the count.

use std::{
    collections::{HashMap, VecDeque},
    ops::RangeInclusive,
    pin::Pin,
};

use futures::{Stream, stream};
use mlplat_proto::tracking::v1 as pb;
use sea_orm::DatabaseConnection;
use tonic::{Request, Status};
use uuid::Uuid;

use super::{
    branch::View,
    codec,
    convert::HistoryQuery,
    merge::StepMerge,
    points::Points,
    store::{self, ChunkInfo},
};
use crate::{
    app::App,
    auth::{Action, Caller, Scope},
    error::{Error, Result},
    request,
    tracking::runs,
};

/// Most points in one message.
const PART: usize = 16_384;
/// Chunks are fetched together up to this many points.
const FETCH_POINTS: i64 = 131_072;

/// The parts of an answer.
pub(crate) type HistoryStream =
    Pin<Box<dyn Stream<Item = std::result::Result<pb::ReadMetricHistoryResponse, Status>> + Send>>;

/// Reads the history of some series of one run.
pub(crate) async fn read_metric_history(
    app: &App,
    request: Request<pb::ReadMetricHistoryRequest>,
) -> Result<HistoryStream> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let query = HistoryQuery::parse(&message)?;
    let scope = caller
        .authorize(app, Action::Read, &request::project_name(&message.project))
        .await?;

    let conn = app.db.read();
    let run = runs::store::load_run(conn, &scope, query.run_id).await?;
    let branch = query.branch.unwrap_or(run.branch);
    if branch > run.branch {
        return Err(Error::not_found("branch", branch));
    }
    let branches = runs::store::load_branches(conn, &scope, &[run.id]).await?;
    let keys: Vec<&str> = query.keys.iter().map(String::as_str).collect();
    let series = store::load_series(conn, &scope, query.run_id, &keys).await?;
    let mut ids: HashMap<String, Uuid> = series
        .into_iter()
        .map(|series| (series.key, series.id))
        .collect();
    let series = query
        .keys
        .into_iter()
        .filter_map(|key| ids.remove(&key).map(|id| (key, id)))
        .collect();
    let reader = Reader {
        conn: conn.clone(),
        scope,
        series,
        steps: query.steps,
        view: View::new(branch, &branches),
        current: None,
    };
    Ok(Box::pin(stream::try_unfold(
        reader,
        |mut reader| async move {
            let part = reader.next_part().await?;
            Ok(part.map(|part| (part, reader)))
        },
    )))
}

/// Where the answer has come to.
struct Reader {
    conn: DatabaseConnection,
    scope: Scope,
    series: VecDeque<(String, Uuid)>,
    steps: RangeInclusive<i64>,
    view: View,
    current: Option<SeriesReader>,
}

impl Reader {
    async fn next_part(&mut self) -> Result<Option<pb::ReadMetricHistoryResponse>> {
        loop {
            let Some(current) = &mut self.current else {
                let Some((key, id)) = self.series.pop_front() else {
                    return Ok(None);
                };
                let open =
                    SeriesReader::open(&self.conn, &self.scope, key, id, &self.steps, &self.view);
                self.current = Some(open.await?);
                continue;
            };
            if let Some(part) = current.next_part(&self.conn, &self.scope).await? {
                let series = pb::MetricSeries {
                    key: current.key.clone(),
                    steps: part.steps,
                    timestamps_us: part.timestamps_us,
                    values: part.values,
                };
                return Ok(Some(pb::ReadMetricHistoryResponse {
                    series: Some(series),
                }));
            }
            self.current = None;
        }
    }
}

/// A chunk, and which of its steps are wanted.
struct Wanted {
    chunk: ChunkInfo,
    steps: RangeInclusive<i64>,
}

impl Wanted {
    fn of(chunk: ChunkInfo, steps: &RangeInclusive<i64>, view: &View) -> Option<Self> {
        let end_step = view.end_step(chunk.number)?.min(*steps.end());
        let steps = *steps.start()..=end_step;
        let overlap = chunk.min_step <= *steps.end() && chunk.max_step >= *steps.start();
        overlap.then_some(Self { chunk, steps })
    }
}

struct SeriesReader {
    key: String,
    id: Uuid,
    /// Chunks that were not fetched yet.
    waiting: VecDeque<Wanted>,
    /// Chunks that were fetched and not decoded yet.
    fetched: VecDeque<(Wanted, Vec<u8>)>,
    merge: StepMerge,
    /// Points in their final order, and how many of them were sent.
    ready: Points,
    sent: usize,
}

impl SeriesReader {
    async fn open(
        conn: &DatabaseConnection,
        scope: &Scope,
        key: String,
        id: Uuid,
        steps: &RangeInclusive<i64>,
        view: &View,
    ) -> Result<Self> {
        let chunks = store::list_chunks(conn, scope, id).await?;
        let mut waiting: Vec<Wanted> = chunks
            .into_iter()
            .filter_map(|chunk| Wanted::of(chunk, steps, view))
            .collect();
        waiting.sort_by_key(|wanted| (wanted.chunk.min_step, wanted.chunk.number));
        let waiting = waiting.into();
        let (fetched, merge, ready) = Default::default();
        Ok(Self {
            key,
            id,
            waiting,
            fetched,
            merge,
            ready,
            sent: 0,
        })
    }

    /// The next points; `None` at the end of the series.
    async fn next_part(
        &mut self,
        conn: &DatabaseConnection,
        scope: &Scope,
    ) -> Result<Option<Points>> {
        while self.sent == self.ready.len() {
            if self.fetched.is_empty() {
                self.fetch(conn, scope).await?;
            }
            let Some((Wanted { chunk, steps }, data)) = self.fetched.pop_front() else {
                return Ok(None);
            };
            let mut points = codec::decode(&data).map_err(Error::internal)?;
            points.truncate(usize::try_from(chunk.count).unwrap_or(usize::MAX));
            self.merge.add(chunk.number, &points, &steps);
            let next = self
                .fetched
                .front()
                .map(|(wanted, _)| wanted)
                .or(self.waiting.front());
            self.ready = self.merge.take(next.map(|wanted| wanted.chunk.min_step));
            self.sent = 0;
        }
        let end = self.ready.len().min(self.sent + PART);
        let part = self.ready.slice(self.sent..end);
        self.sent = end;
        Ok(Some(part))
    }

    async fn fetch(&mut self, conn: &DatabaseConnection, scope: &Scope) -> Result<()> {
        let mut wanted = Vec::new();
        let mut points = 0;
        while let Some(next) = self.waiting.pop_front() {
            points += next.chunk.count;
            wanted.push(next);
            if points >= FETCH_POINTS {
                break;
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let numbers: Vec<i64> = wanted.iter().map(|wanted| wanted.chunk.number).collect();
        let mut data = store::load_chunks(conn, scope, self.id, &numbers).await?;
        for wanted in wanted {
            let bytes = data.remove(&wanted.chunk.number).ok_or_else(|| {
                Error::internal(anyhow::anyhow!(
                    "chunks of metric series {} are missing",
                    self.id
                ))
            })?;
            self.fetched.push_back((wanted, bytes));
        }
        Ok(())
    }
}
