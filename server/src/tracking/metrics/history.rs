//! ReadMetricHistory: points of series by step, then as logged, streamed in parts; all of them, the last ones, or what a
//! chart needs.
//!
//! Invariant: only chunks that overlap in steps are in memory together. Chunks are fetched ahead, and decoded on threads where
//! that may take its time.

use std::{
    collections::{HashMap, VecDeque},
    ops::RangeInclusive,
    pin::Pin,
    sync::Arc,
};

use futures::{Stream, StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use mlplat_proto::tracking::v1 as pb;
use tonic::{Request, Status};
use uuid::Uuid;

use super::{
    branch::View,
    codec::Corrupt,
    compact::{CompactorHandle, WORTH},
    convert::{HistoryQuery, Selection},
    downsample::{Cut, Downsample},
    merge::StepMerge,
    points::Points,
    read::{Fetched, SeriesReader, Wanted, fetch_units},
    store,
};
use crate::{
    app::App,
    auth::{Action, Caller},
    error::{Error, Result},
    request,
    tracking::runs,
};

/// Most points in one message.
const PART: usize = 32_768;
/// Units of chunks that are fetched and decoded ahead.
const AHEAD: usize = 3;
/// Series that are opened ahead.
const SERIES_AHEAD: usize = 4;
/// Most points that wait for others to come before them.
const MAX_HELD: usize = 8 << 20;

/// The parts of an answer.
pub(crate) type HistoryStream =
    Pin<Box<dyn Stream<Item = std::result::Result<pb::ReadMetricHistoryResponse, Status>> + Send>>;

type PointsStream = BoxStream<'static, Result<Points>>;

/// Reads the history of some series of one run.
pub(crate) async fn read_metric_history(
    app: &App,
    compactor: &CompactorHandle,
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
    let history = Arc::new(History {
        view: View::new(branch, &branches),
        steps: query.steps,
        selection: query.selection,
        compactor: compactor.clone(),
        run_id: run.id,
    });
    let opened = query
        .keys
        .into_iter()
        .filter_map(|key| Some((ids.remove(&key)?, key)))
        .map(|(series_id, key)| {
            let reader = SeriesReader {
                conn: conn.clone(),
                scope: scope.clone(),
                series_id,
            };
            Arc::clone(&history).open(reader, key)
        })
        .collect::<Vec<_>>();
    let parts = stream::iter(opened).buffered(SERIES_AHEAD).try_flatten();
    Ok(Box::pin(parts.map_err(Status::from)))
}

/// What is asked of every series.
struct History {
    view: View,
    steps: RangeInclusive<i64>,
    selection: Selection,
    compactor: CompactorHandle,
    run_id: Uuid,
}

impl History {
    /// The messages of one series.
    async fn open(
        self: Arc<Self>,
        reader: SeriesReader,
        key: String,
    ) -> Result<impl Stream<Item = Result<pb::ReadMetricHistoryResponse>> + Send> {
        let mut wanted = reader.plan(&self.view, &self.steps).await?;
        if wanted.len() > 4 * WORTH {
            // Whoever left it like this did not come to merging it.
            self.compactor
                .grown(reader.scope.project(), self.run_id, reader.series_id);
        }
        let points: PointsStream = match self.selection {
            Selection::All => in_order(reader, wanted),
            Selection::Last(count) => {
                let skip = narrow(&reader, &mut wanted, count).await?;
                in_order(reader, wanted).scan(skip, skip_points).boxed()
            }
            Selection::Buckets(buckets) => {
                stream::once(downsampled(reader, wanted, buckets)).boxed()
            }
        };
        let parts = points.map_ok(|points| stream::iter(cut(points)).map(Ok));
        Ok(parts.try_flatten().map_ok(move |points| {
            let series = pb::MetricSeries {
                key: key.clone(),
                steps: points.steps,
                timestamps_us: points.timestamps_us,
                values: points.values,
            };
            pb::ReadMetricHistoryResponse {
                series: Some(series),
            }
        }))
    }
}

/// Parts that fit into messages; none of them is empty.
fn cut(points: Points) -> Vec<Points> {
    if (1..=PART).contains(&points.len()) {
        return vec![points];
    }
    (0..points.len())
        .step_by(PART)
        .map(|start| points.slice(start..points.len().min(start + PART)))
        .collect()
}

/// All wanted points in order.
fn in_order(reader: SeriesReader, mut wanted: Vec<Wanted>) -> PointsStream {
    wanted.sort_by_key(|wanted| (wanted.chunk.min_step, wanted.chunk.number));
    // How far the points of a unit are final: up to the first step of the chunk that comes next.
    let bounds: VecDeque<i64> = wanted.iter().map(|wanted| wanted.chunk.min_step).collect();
    let units = fetch_units(wanted).into_iter().map(move |unit| {
        let reader = reader.clone();
        async move {
            let fetched = reader.fetch(unit).await?;
            on_a_thread(move || {
                fetched
                    .into_iter()
                    .map(|fetched| Ok((fetched.points()?, fetched.wanted)))
                    .collect::<std::result::Result<Vec<_>, Corrupt>>()
            })
            .await
        }
    });
    let state = (
        stream::iter(units).buffered(AHEAD).boxed(),
        StepMerge::default(),
        bounds,
    );
    stream::try_unfold(state, |(mut units, mut merge, mut bounds)| async move {
        let Some(unit) = units.try_next().await? else {
            return Ok(None);
        };
        let mut ready = Points::default();
        for (points, wanted) in unit {
            bounds.pop_front();
            let bound = bounds.front().copied();
            merge.pass(wanted.chunk.number, points, &wanted.steps, bound, &mut ready);
        }
        if merge.held() > MAX_HELD {
            return Err(Error::exhausted(
                "HISTORY_OUT_OF_ORDER",
                "too many points of this history were logged in another order than their steps; read fewer steps at once",
            ));
        }
        Ok(Some((ready, (units, merge, bounds))))
    })
    .boxed()
}

/// Leaves out the first points of a stream.
fn skip_points(
    left: &mut usize,
    points: Result<Points>,
) -> futures::future::Ready<Option<Result<Points>>> {
    let rest = points.map(|points| {
        let skip = points.len().min(*left);
        *left -= skip;
        if skip == 0 {
            points
        } else {
            points.slice(skip..points.len())
        }
    });
    futures::future::ready(Some(rest))
}

/// Leaves only chunks that the last `count` points can be in; gives how many points to skip of those.
async fn narrow(reader: &SeriesReader, wanted: &mut Vec<Wanted>, count: u64) -> Result<usize> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    wanted.sort_by_key(|wanted| std::cmp::Reverse(wanted.chunk.min_step));
    // From this step on there are enough points for sure.
    let mut sure = 0;
    let from = wanted.iter().find_map(|wanted| {
        sure += if wanted.is_part() {
            0
        } else {
            wanted.chunk.count
        };
        (sure >= count).then_some(wanted.chunk.min_step)
    });
    if let Some(from) = from {
        for wanted in wanted.iter_mut() {
            wanted.steps = from.max(*wanted.steps.start())..=*wanted.steps.end();
        }
        wanted.retain(|wanted| wanted.chunk.max_step >= from);
    }
    let mut total = 0i64;
    let mut partly = Vec::new();
    for wanted in wanted.iter() {
        if wanted.is_part() {
            partly.push(wanted.clone());
        } else {
            total += wanted.chunk.count;
        }
    }
    for unit in fetch_units(partly) {
        let fetched = reader.fetch(unit).await?;
        let counted = on_a_thread(move || {
            fetched
                .iter()
                .map(Fetched::count_wanted)
                .sum::<std::result::Result<usize, Corrupt>>()
        });
        total += i64::try_from(counted.await?).unwrap_or_default();
    }
    Ok(usize::try_from(total - count).unwrap_or_default())
}

/// What a chart needs of the wanted points.
async fn downsampled(reader: SeriesReader, wanted: Vec<Wanted>, buckets: u32) -> Result<Points> {
    let first = wanted
        .iter()
        .map(|wanted| wanted.chunk.min_step.max(*wanted.steps.start()))
        .min();
    let last = wanted
        .iter()
        .map(|wanted| wanted.chunk.max_step.min(*wanted.steps.end()))
        .max();
    let Some((first, last)) = first.zip(last) else {
        return Ok(Points::default());
    };
    let cut = Cut::new(first, last, buckets);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let units = fetch_units(wanted).into_iter().map(|unit| {
        let reader = reader.clone();
        async move {
            let fetched = reader.fetch(unit).await?;
            on_a_thread(move || {
                let mut kept = Downsample::default();
                for fetched in fetched {
                    let place = u64::try_from(fetched.wanted.place).unwrap_or_default();
                    let points = fetched.points()?;
                    kept.add(Downsample::reduce(
                        cut,
                        place,
                        &points,
                        &fetched.wanted.steps,
                    ));
                }
                Ok(kept)
            })
            .await
        }
    });
    let kept = stream::iter(units)
        .buffer_unordered(threads.clamp(2, 8))
        .try_fold(Downsample::default(), |mut all, kept| async move {
            all.add(kept);
            Ok(all)
        })
        .await?;
    Ok(kept.finish())
}

/// Does what takes its time where nobody waits for the thread.
async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> std::result::Result<T, Corrupt> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(Error::internal)?
        .map_err(Error::internal)
}
