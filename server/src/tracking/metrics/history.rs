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
    codec,
    convert::HistoryQuery,
    merge::StepMerge,
    points::Points,
    store::{self, ChunkInfo},
};
use crate::{
    app::App,
    auth::{Action, Caller},
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
    runs::store::load_run(conn, &scope, query.run_id).await?;
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
        series,
        steps: query.steps,
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
    series: VecDeque<(String, Uuid)>,
    steps: RangeInclusive<i64>,
    current: Option<SeriesReader>,
}

impl Reader {
    async fn next_part(&mut self) -> Result<Option<pb::ReadMetricHistoryResponse>> {
        loop {
            let Some(current) = &mut self.current else {
                let Some((key, id)) = self.series.pop_front() else {
                    return Ok(None);
                };
                self.current = Some(SeriesReader::open(&self.conn, key, id, &self.steps).await?);
                continue;
            };
            if let Some(part) = current.next_part(&self.conn, &self.steps).await? {
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

struct SeriesReader {
    key: String,
    id: Uuid,
    /// Chunks that were not fetched yet.
    waiting: VecDeque<ChunkInfo>,
    /// Chunks that were fetched and not decoded yet.
    fetched: VecDeque<(ChunkInfo, Vec<u8>)>,
    merge: StepMerge,
    /// Points in their final order, and how many of them were sent.
    ready: Points,
    sent: usize,
}

impl SeriesReader {
    async fn open(
        conn: &DatabaseConnection,
        key: String,
        id: Uuid,
        steps: &RangeInclusive<i64>,
    ) -> Result<Self> {
        let waiting = store::list_chunks(conn, id, steps).await?.into();
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
        steps: &RangeInclusive<i64>,
    ) -> Result<Option<Points>> {
        while self.sent == self.ready.len() {
            if self.fetched.is_empty() {
                self.fetch(conn).await?;
            }
            let Some((chunk, data)) = self.fetched.pop_front() else {
                return Ok(None);
            };
            let mut points = codec::decode(&data).map_err(Error::internal)?;
            points.truncate(usize::try_from(chunk.count).unwrap_or(usize::MAX));
            self.merge.add(chunk.number, &points, steps);
            let next = self
                .fetched
                .front()
                .map(|(chunk, _)| chunk)
                .or(self.waiting.front());
            self.ready = self.merge.take(next.map(|chunk| chunk.min_step));
            self.sent = 0;
        }
        let end = self.ready.len().min(self.sent + PART);
        let part = self.ready.slice(self.sent..end);
        self.sent = end;
        Ok(Some(part))
    }

    async fn fetch(&mut self, conn: &DatabaseConnection) -> Result<()> {
        let mut chunks = Vec::new();
        let mut points = 0;
        while let Some(chunk) = self.waiting.pop_front() {
            points += chunk.count;
            chunks.push(chunk);
            if points >= FETCH_POINTS {
                break;
            }
        }
        if chunks.is_empty() {
            return Ok(());
        }
        let numbers: Vec<i64> = chunks.iter().map(|chunk| chunk.number).collect();
        let mut data = store::load_chunks(conn, self.id, &numbers).await?;
        self.fetched.extend(chunks.into_iter().filter_map(|chunk| {
            let bytes = data.remove(&chunk.number)?;
            Some((chunk, bytes))
        }));
        Ok(())
    }
}
