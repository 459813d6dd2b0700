//! Found runs as one table: what every run has, then a column per metric, param and tag that any of them has.
//!
//! Invariant: the messages here are those of the contract on the wire, with less in them, so that a table of many runs costs
//! little: texts stay where they arrived until they are in their column.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{
        ArrayRef, Float64Array, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
    },
    datatypes::{Field, Schema},
};
use bytes::Bytes;
use foldhash::fast::RandomState;
use mlplat_proto::tracking::v1 as pb;
use tonic::{
    Request, Response, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel,
};
use tonic_prost::ProstCodec;

use super::{RunQuery, RunStatus, Tracking};
use crate::{
    call::MAX_MESSAGE_BYTES,
    error::{Error, Result},
    retry::Safety,
};

/// A `SearchRunsResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct Found {
    #[prost(message, repeated, tag = "1")]
    runs: Vec<FoundRun>,
    #[prost(string, tag = "2")]
    next_page_token: String,
}

/// A `Run`.
#[derive(Clone, PartialEq, prost::Message)]
struct FoundRun {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    experiment: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    name: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    parent_run_id: Bytes,
    #[prost(enumeration = "pb::RunStatus", tag = "5")]
    status: i32,
    #[prost(message, repeated, tag = "8")]
    params: Vec<FoundText>,
    #[prost(message, repeated, tag = "9")]
    tags: Vec<FoundText>,
    #[prost(message, repeated, tag = "10")]
    metrics: Vec<FoundMetric>,
    #[prost(message, optional, tag = "11")]
    started_at: Option<prost_types::Timestamp>,
    #[prost(message, optional, tag = "12")]
    ended_at: Option<prost_types::Timestamp>,
}

/// An entry of a map of texts.
#[derive(Clone, PartialEq, prost::Message)]
struct FoundText {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// A `MetricSummary`.
#[derive(Clone, PartialEq, prost::Message)]
struct FoundMetric {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(double, tag = "2")]
    last_value: f64,
}

impl Tracking {
    /// Runs that fit the query, at most `limit` of them, as one table: `run_id`, `experiment`, `name`, `status`, `started_at`,
    /// `ended_at`, `parent_run_id`, then `metrics.<key>` (the last value), `params.<key>` and `tags.<key>`. The
    /// [fields](RunQuery::field) that are asked for are there even if no run has them.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a bad filter.
    pub async fn search_table(&self, query: RunQuery, limit: Option<usize>) -> Result<RecordBatch> {
        let (most, fields) = (limit.unwrap_or(usize::MAX), query.fields.clone());
        let (mut runs, mut token) = (Vec::new(), String::new());
        while runs.len() < most {
            let mut page = self.search(query.clone(), token).await?;
            runs.append(&mut page.runs);
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        runs.truncate(most);
        table(&runs, &fields)
    }

    /// One page of the runs that fit the query, as [`Tracking::search_table`]: the first, or the one that `page_token` of the
    /// page before names; and the token of the next one, none on the last.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a bad filter, or a token of another query.
    pub async fn search_table_page(
        &self,
        query: RunQuery,
        page_token: &str,
    ) -> Result<(RecordBatch, Option<String>)> {
        let fields = query.fields.clone();
        let page = self.search(query, page_token.to_owned()).await?;
        let next = Some(page.next_page_token).filter(|token| !token.is_empty());
        Ok((table(&page.runs, &fields)?, next))
    }

    async fn search(&self, mut query: RunQuery, page_token: String) -> Result<Found> {
        if query.fields.is_empty() {
            // Nothing else is in the table.
            query.fields = ["metrics", "params", "tags"].map(str::to_owned).into();
        }
        let request = query.into_request(&self.client, page_token);
        self.client
            .unary(Safety::Repeatable, "search_runs", request, search_runs)
            .await
    }
}

/// What the generated client does, with our messages.
async fn search_runs(
    channel: Channel,
    request: Request<pb::SearchRunsRequest>,
) -> Result<Response<Found>, Status> {
    let mut grpc = Grpc::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    grpc.ready()
        .await
        .map_err(|error| Status::unknown(format!("Service was not ready: {error}")))?;
    let path = PathAndQuery::from_static("/mlplat.tracking.v1.TrackingService/SearchRuns");
    grpc.unary(request, path, ProstCodec::default()).await
}

/// The table, one row per run, in their order.
fn table(runs: &[FoundRun], fields: &[String]) -> Result<RecordBatch> {
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("run_id".to_owned(), texts(runs, |run| Some(&run.id))?),
        (
            "experiment".to_owned(),
            texts(runs, |run| Some(&run.experiment))?,
        ),
        ("name".to_owned(), texts(runs, |run| Some(&run.name))?),
        ("status".to_owned(), statuses(runs)),
        (
            "started_at".to_owned(),
            times(runs, |run| Some(run.started_at.unwrap_or_default())),
        ),
        ("ended_at".to_owned(), times(runs, |run| run.ended_at)),
        (
            "parent_run_id".to_owned(),
            texts(runs, |run| {
                Some(&run.parent_run_id).filter(|id| !id.is_empty())
            })?,
        ),
    ];
    let mut metrics = Columns::new(runs.len(), fields, "metrics.");
    let mut params = Columns::new(runs.len(), fields, "params.");
    let mut tags = Columns::new(runs.len(), fields, "tags.");
    for (row, run) in runs.iter().enumerate() {
        for (place, metric) in run.metrics.iter().enumerate() {
            metrics.set(row, place, &metric.key, metric.last_value);
        }
        for (place, param) in run.params.iter().enumerate() {
            params.set(row, place, &param.key, &param.value);
        }
        for (place, tag) in run.tags.iter().enumerate() {
            tags.set(row, place, &tag.key, &tag.value);
        }
    }
    for (name, values) in metrics.named()? {
        columns.push((name, Arc::new(Float64Array::from(values))));
    }
    for (name, values) in params.named()?.into_iter().chain(tags.named()?) {
        columns.push((name, column_of_texts(values.into_iter())?));
    }
    let fields = columns
        .iter()
        .map(|(name, array)| Field::new(name, array.data_type().clone(), true));
    let schema = Schema::new(fields.collect::<Vec<_>>());
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    Ok(RecordBatch::try_new(Arc::new(schema), arrays)?)
}

/// The columns of one kind of keys.
struct Columns<'a, V> {
    kind: &'static str,
    rows: usize,
    places: HashMap<&'a [u8], usize, RandomState>,
    columns: Vec<(&'a [u8], Vec<Option<V>>)>,
}

impl<'a, V: Copy> Columns<'a, V> {
    /// Those that are asked for.
    fn new(rows: usize, fields: &'a [String], kind: &'static str) -> Self {
        let mut columns = Self {
            kind,
            rows,
            places: HashMap::default(),
            columns: Vec::new(),
        };
        for field in fields {
            if let Some(key) = field.strip_prefix(kind) {
                columns.place(key.trim_matches(['`', '"']).as_bytes());
            }
        }
        columns
    }

    fn place(&mut self, key: &'a [u8]) -> usize {
        let (rows, columns) = (self.rows, &mut self.columns);
        *self.places.entry(key).or_insert_with(|| {
            columns.push((key, vec![None; rows]));
            columns.len() - 1
        })
    }

    /// Most runs have the same keys in the same order, so `guess` is mostly the place of the column.
    fn set(&mut self, row: usize, guess: usize, key: &'a [u8], value: V) {
        let place = match self.columns.get(guess) {
            Some((known, _)) if *known == key => guess,
            _ => self.place(key),
        };
        if let Some((_, column)) = self.columns.get_mut(place)
            && let Some(cell) = column.get_mut(row)
        {
            *cell = Some(value);
        }
    }

    /// The columns by key, with their names.
    fn named(mut self) -> Result<Vec<(String, Vec<Option<V>>)>> {
        self.columns.sort_unstable_by_key(|(key, _)| *key);
        let named = self.columns.into_iter().map(|(key, values)| {
            let name = format!("{}{}", self.kind, text(key)?);
            Ok((name, values))
        });
        named.collect()
    }
}

fn texts<'a>(
    runs: &'a [FoundRun],
    of: impl Fn(&'a FoundRun) -> Option<&'a Bytes>,
) -> Result<ArrayRef> {
    column_of_texts(runs.iter().map(of))
}

fn column_of_texts<'a>(values: impl Iterator<Item = Option<&'a Bytes>>) -> Result<ArrayRef> {
    let mut column = StringBuilder::with_capacity(values.size_hint().0, 0);
    for value in values {
        column.append_option(value.map(|value| text(value)).transpose()?);
    }
    Ok(Arc::new(column.finish()))
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| Error::protocol("text"))
}

fn statuses(runs: &[FoundRun]) -> ArrayRef {
    let names = runs
        .iter()
        .map(|run| RunStatus::from(run.status()).as_str());
    Arc::new(StringArray::from_iter_values(names))
}

fn times(runs: &[FoundRun], of: impl Fn(&FoundRun) -> Option<prost_types::Timestamp>) -> ArrayRef {
    let micros = |at: prost_types::Timestamp| {
        at.seconds
            .saturating_mul(1_000_000)
            .saturating_add(i64::from(at.nanos / 1000))
    };
    let column: TimestampMicrosecondArray = runs.iter().map(|run| of(run).map(micros)).collect();
    Arc::new(column.with_timezone("UTC"))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array as _, AsArray as _};
    use prost::Message as _;

    use super::*;

    fn run(id: &str, params: &[(&str, &str)], metrics: &[(&str, f64)]) -> pb::Run {
        let metric = |(key, value): &(&str, f64)| pb::MetricSummary {
            key: (*key).to_owned(),
            last_value: *value,
            count: 1,
            ..Default::default()
        };
        pb::Run {
            id: id.to_owned(),
            status: pb::RunStatus::Failed.into(),
            params: params
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            metrics: metrics.iter().map(metric).collect(),
            started_at: Some(prost_types::Timestamp {
                seconds: -1,
                nanos: 500_000_000,
            }),
            ..Default::default()
        }
    }

    fn as_table(runs: Vec<pb::Run>, fields: &[&str]) -> RecordBatch {
        let answer = pb::SearchRunsResponse {
            runs,
            next_page_token: "next".to_owned(),
        };
        let found = Found::decode(answer.encode_to_vec().as_slice()).expect("the same message");
        assert_eq!(found.next_page_token, "next");
        let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        table(&found.runs, &fields).expect("a table")
    }

    #[test]
    fn runs_with_other_keys_share_a_table() {
        let runs = vec![
            run(
                "a",
                &[("lr", "0.1"), ("depth", "")],
                &[("loss", 0.5), ("mae", f64::NAN)],
            ),
            run("b", &[("depth", "3")], &[("mae", 2.0)]),
        ];
        let table = as_table(runs, &[]);
        let names: Vec<&str> = table
            .schema_ref()
            .fields()
            .iter()
            .map(|f| f.name().as_str())
            .collect();
        assert_eq!(
            names[7..],
            ["metrics.loss", "metrics.mae", "params.depth", "params.lr"]
        );
        let texts = |name: &str| -> Vec<Option<String>> {
            let column = table
                .column_by_name(name)
                .expect("a column")
                .as_string::<i32>();
            column.iter().map(|text| text.map(str::to_owned)).collect()
        };
        assert_eq!(
            texts("params.depth"),
            [Some(String::new()), Some("3".to_owned())]
        );
        assert_eq!(texts("params.lr"), [Some("0.1".to_owned()), None]);
        assert_eq!(texts("status"), vec![Some("FAILED".to_owned()); 2]);
        assert_eq!(texts("parent_run_id"), [None, None]);
        let loss = table.column_by_name("metrics.loss").expect("a column");
        assert!(loss.is_valid(0) && loss.is_null(1));
        let started = table.column_by_name("started_at").expect("a column");
        let started = started.as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
        assert_eq!(started.value(0), -500_000);
    }

    #[test]
    fn what_is_asked_for_is_there() {
        let table = as_table(Vec::new(), &["metrics.`a b`", "params.lr", "tags"]);
        let schema = table.schema();
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(names[7..], ["metrics.a b", "params.lr"]);
        assert_eq!(table.num_rows(), 0);
    }
}
