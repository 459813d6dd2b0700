//! Historical retrieval: a table of entity rows goes up, the same rows with their features come down, both as streams over
//! Arrow Flight at the same time.
//!
//! Invariant: an entity table whose reader fails is never taken for one that ended, and a result is complete only with the
//! server's last message. A retrieval is not repeated by itself, for it is an event of the lineage.

use std::{
    collections::BTreeMap,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use arrow::{
    array::{RecordBatch, RecordBatchIterator, RecordBatchReader},
    datatypes::{Schema, SchemaRef},
};
use arrow_flight::{
    FlightData, FlightDescriptor,
    decode::{DecodedPayload, FlightDataDecoder},
    error::FlightError,
    flight_service_client::FlightServiceClient,
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream::BoxStream};
use mlplat_proto::features::v1 as pb;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::time::Instant;

use super::{
    Features,
    batches::{bare, encode, from_flight},
};
use crate::{
    client::{CallError, Client, MAX_MESSAGE_BYTES, new_request_id},
    convert::{range, system_time, timestamp},
    error::{Error, Result},
    outgoing::{SourceError, outgoing},
    tracking::checked_run_id,
};

/// Which rows count as known at the time of an entity row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KnownAt {
    /// A row counts from its event time.
    #[default]
    Event,
    /// A row counts only once it was written too, so that late corrections do not leak into the past.
    Entity,
}

/// A view joined under other key columns, and under a name of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewAlias {
    /// Name that the query uses in `name:feature`.
    pub name: String,
    /// The feature view.
    pub feature_view: String,
    /// Key column of the view -> column of the entity table.
    pub join_keys: BTreeMap<String, String>,
}

impl ViewAlias {
    /// The view under another name; keys that are not renamed keep theirs.
    pub fn new(name: impl Into<String>, feature_view: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            feature_view: feature_view.into(),
            join_keys: BTreeMap::new(),
        }
    }

    /// Takes a key of the view from this column of the entity table.
    #[must_use]
    pub fn join_key(mut self, key: impl Into<String>, column: impl Into<String>) -> Self {
        self.join_keys.insert(key.into(), column.into());
        self
    }

    pub(super) fn into_proto(self) -> pb::ViewAlias {
        pb::ViewAlias {
            name: self.name,
            feature_view: self.feature_view,
            join_keys: self.join_keys.into_iter().collect(),
        }
    }
}

/// What a source was when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSnapshot {
    /// Name of the source.
    pub source: String,
    /// Its files, by path.
    pub files: Vec<FileSnapshot>,
}

/// What a file was when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSnapshot {
    /// Path or `s3://` address.
    pub path: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Modification time.
    pub modified_at: Option<SystemTime>,
    /// ETag where the store gives one; else empty.
    pub etag: String,
}

impl From<SourceSnapshot> for pb::SourceSnapshot {
    fn from(s: SourceSnapshot) -> Self {
        let file = |f: FileSnapshot| pb::FileSnapshot {
            path: f.path,
            size_bytes: f.size_bytes,
            modified_at: f.modified_at.map(timestamp),
            etag: f.etag,
        };
        Self {
            source: s.source,
            files: s.files.into_iter().map(file).collect(),
        }
    }
}

impl From<pb::SourceSnapshot> for SourceSnapshot {
    fn from(s: pb::SourceSnapshot) -> Self {
        let file = |f: pb::FileSnapshot| FileSnapshot {
            path: f.path,
            size_bytes: f.size_bytes,
            modified_at: f.modified_at.map(system_time),
            etag: f.etag,
        };
        Self {
            source: s.source,
            files: s.files.into_iter().map(file).collect(),
        }
    }
}

/// Which features to read, and how.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct HistoricalQuery {
    message: pb::HistoricalFeaturesQuery,
}

impl HistoricalQuery {
    /// Features as `view:feature`, or the name of one feature service.
    pub fn new<S: Into<String>>(features: impl IntoIterator<Item = S>) -> Self {
        let features = features.into_iter().map(Into::into).collect();
        Self {
            message: pb::HistoricalFeaturesQuery {
                features,
                ..Default::default()
            },
        }
    }

    /// Column of the entity table with the time of each row.
    pub fn timestamp(mut self, column: impl Into<String>) -> Self {
        self.message.timestamp_column = column.into();
        self
    }

    /// Which rows count as known; default from their event time.
    pub fn known_at(mut self, known_at: KnownAt) -> Self {
        self.message.known_at = match known_at {
            KnownAt::Event => pb::KnownAt::Event,
            KnownAt::Entity => pb::KnownAt::Entity,
        }
        .into();
        self
    }

    /// Whether result columns are named `view__feature`; default false.
    pub fn full_names(mut self, full_names: bool) -> Self {
        self.message.full_names = full_names;
        self
    }

    /// Adds a view under other keys.
    pub fn alias(mut self, alias: ViewAlias) -> Self {
        self.message.aliases.push(alias.into_proto());
        self
    }

    /// Instead of an entity table: the rows of the one view that is named whose event time is in the window, both ends
    /// inclusive, both optional (but not both left out).
    pub fn window(mut self, start: Option<SystemTime>, end: Option<SystemTime>) -> Self {
        self.message.window = range(start, end);
        self
    }

    /// Instead of an entity table: the rows of this query over the sources and views of the project.
    pub fn sql(mut self, query: impl Into<String>) -> Self {
        self.message.entity_sql = query.into();
        self
    }

    /// What the sources must still be, from an earlier [`TrainingSet`].
    pub fn snapshots(mut self, snapshots: impl IntoIterator<Item = SourceSnapshot>) -> Self {
        self.message.snapshots = snapshots.into_iter().map(Into::into).collect();
        self
    }

    /// The run that reads; the training set becomes its input in the lineage.
    pub fn run(mut self, run_id: impl Into<String>) -> Self {
        self.message.run_id = run_id.into();
        self
    }

    /// Name of the training set in the lineage.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.message.name = name.into();
        self
    }
}

/// The entity rows to join features to.
pub enum Entities {
    /// None: the query has a window or SQL instead.
    None,
    /// A reader, taken batch by batch while the result comes in. It may block.
    Reader(Box<dyn RecordBatchReader + Send>),
}

impl Entities {
    /// A table in memory.
    pub fn batches(schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        Self::Reader(Box::new(RecordBatchIterator::new(
            batches.into_iter().map(Ok),
            schema,
        )))
    }
}

impl From<RecordBatch> for Entities {
    fn from(batch: RecordBatch) -> Self {
        Self::batches(batch.schema(), vec![batch])
    }
}

impl From<Box<dyn RecordBatchReader + Send>> for Entities {
    fn from(reader: Box<dyn RecordBatchReader + Send>) -> Self {
        Self::Reader(reader)
    }
}

impl fmt::Debug for Entities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("Entities::None"),
            Self::Reader(reader) => write!(f, "Entities::Reader({:?})", reader.schema()),
        }
    }
}

/// A result that is complete, in memory.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TrainingSet {
    /// The schema: the columns of the entity table, then the features.
    pub schema: SchemaRef,
    /// The rows, in the order of the entity table.
    pub batches: Vec<RecordBatch>,
    /// Id of the retrieval, a UUIDv7; also its OpenLineage runId.
    pub retrieval_id: String,
    /// Name of the training set in the lineage.
    pub name: String,
    /// What was read.
    pub snapshots: Vec<SourceSnapshot>,
}

impl TrainingSet {
    /// Rows in all.
    pub fn num_rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// The rows as a reader.
    pub fn reader(&self) -> impl RecordBatchReader + Send + use<> {
        RecordBatchIterator::new(
            self.batches.clone().into_iter().map(Ok),
            self.schema.clone(),
        )
    }
}

/// A result as it comes in: a `Stream` of `Result<RecordBatch>`.
#[must_use = "the result is not complete before it is read to its end"]
pub struct HistoricalStream {
    schema: SchemaRef,
    last: LastMessage,
    batches: BoxStream<'static, Result<RecordBatch>>,
}

impl HistoricalStream {
    /// The schema of the result.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// As [`Features::historical`]; [`Error::DataLoss`] when the stream ends too early.
    pub async fn collect(mut self) -> Result<TrainingSet> {
        let mut batches = Vec::new();
        while let Some(batch) = self.batches.try_next().await? {
            if batch.num_rows() > 0 {
                batches.push(batch);
            }
        }
        let result = self.last.result()?;
        let set = TrainingSet {
            schema: self.schema,
            batches,
            retrieval_id: result.retrieval_id,
            name: result.training_set,
            snapshots: result.snapshots.into_iter().map(Into::into).collect(),
        };
        if set.num_rows() as u64 != result.rows {
            let text = format!(
                "{} of {} rows of the result arrived",
                set.num_rows(),
                result.rows
            );
            return Err(Error::data_loss(text));
        }
        Ok(set)
    }
}

impl Stream for HistoricalStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.poll_next_unpin(cx)
    }
}

impl fmt::Debug for HistoricalStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HistoricalStream({:?})", self.schema)
    }
}

/// The `app_metadata` that came last.
#[derive(Debug, Clone, Default)]
struct LastMessage(Arc<Mutex<Bytes>>);

impl LastMessage {
    /// Takes note of the metadata, and drops messages that carry nothing else, which the decoder would not understand.
    fn note(&self, message: &FlightData) -> bool {
        if !message.app_metadata.is_empty() {
            *self.0.lock() = message.app_metadata.clone();
        }
        !message.data_header.is_empty()
    }

    fn result(&self) -> Result<pb::HistoricalFeaturesResult> {
        let bytes = self.0.lock().clone();
        if bytes.is_empty() {
            return Err(Error::data_loss(
                "the result ended before the server said that it is complete",
            ));
        }
        pb::HistoricalFeaturesResult::decode(bytes)
            .map_err(|e| Error::data_loss(format!("end of the result: {e}")))
    }
}

impl Features {
    /// The features of the query as they were known at the time of each entity row. One output row per input row, in the
    /// order of the input, with the input's columns unchanged.
    ///
    /// # Errors
    /// [`Error::NotFound`] for unknown views or features, [`Error::InvalidArgument`] for missing columns or colliding names,
    /// [`Error::FailedPrecondition`] when a pinned source has changed, and whatever the reader fails with.
    pub async fn historical(
        &self,
        query: HistoricalQuery,
        entities: impl Into<Entities>,
    ) -> Result<HistoricalStream> {
        let (entities, mut message) = (entities.into(), query.message);
        check_entities(&entities, &message)?;
        message.project = self.project();
        if !message.run_id.is_empty() {
            message.run_id = checked_run_id(&message.run_id)?;
        }
        // A stream cannot be sent twice, so whether the server is there is found out by a call that can.
        self.client.admin().server_info().await?;
        let descriptor = FlightDescriptor::new_cmd(message.encode_to_vec());
        let messages = match entities {
            Entities::None => bare(descriptor).boxed(),
            Entities::Reader(reader) => encode(reader, descriptor).boxed(),
        };
        Exchange::begin(&self.client, messages).await
    }
}

fn check_entities(entities: &Entities, query: &pb::HistoricalFeaturesQuery) -> Result<()> {
    let instead = query.window.is_some() || !query.entity_sql.is_empty();
    match entities {
        Entities::None if !instead => Err(Error::misuse(
            "there are no entity rows: give a table, a SQL query, or a window of time (start, end)",
        )),
        Entities::Reader(_) if instead => Err(Error::misuse(
            "give either an entity table, or a SQL query or window of time in its place, not both",
        )),
        Entities::Reader(_) if query.timestamp_column.is_empty() => Err(Error::misuse(
            "which column of the entity table has the time of each row? name it with `timestamp`",
        )),
        _ => Ok(()),
    }
}

/// One DoExchange under way.
struct Exchange {
    client: Client,
    request_id: String,
    timeout: Duration,
    deadline: Instant,
    source: SourceError,
    decoder: FlightDataDecoder,
}

impl Exchange {
    /// Sends the messages and waits for the schema of the result.
    async fn begin(
        client: &Client,
        messages: BoxStream<'static, Result<FlightData>>,
    ) -> Result<HistoricalStream> {
        let (request_id, timeout) = (new_request_id(), client.stream_timeout());
        let (messages, mut source) = outgoing(messages);
        let request = client.request(messages, timeout, &request_id);
        let mut stub = FlightServiceClient::new(client.channel())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let answer = source
            .or(async { Ok(stub.do_exchange(request).await?) })
            .await;
        let answer = answer
            .map_err(|error| final_error(client, &request_id, error))?
            .into_inner();
        let last = LastMessage::default();
        let noted = last.clone();
        let answer = answer
            .map_err(|status| FlightError::Tonic(Box::new(status)))
            .try_filter(move |message| std::future::ready(noted.note(message)));
        let mut exchange = Self {
            client: client.clone(),
            request_id,
            timeout,
            deadline: Instant::now() + timeout,
            source,
            decoder: FlightDataDecoder::new(answer),
        };
        let schema = loop {
            match exchange.next().await? {
                Some(DecodedPayload::Schema(schema)) => break schema,
                Some(DecodedPayload::None) => {}
                Some(DecodedPayload::RecordBatch(_)) => {
                    return Err(Error::protocol("schema before the first rows"));
                }
                // No rows and no schema: an empty result of no columns.
                None => break Arc::new(Schema::empty()),
            }
        };
        let batches = futures::stream::try_unfold(exchange, |mut exchange| async move {
            loop {
                match exchange.next().await? {
                    Some(DecodedPayload::RecordBatch(batch)) => return Ok(Some((batch, exchange))),
                    Some(_) => {}
                    None => return Ok(None),
                }
            }
        });
        Ok(HistoricalStream {
            schema,
            last,
            batches: batches.boxed(),
        })
    }

    async fn next(&mut self) -> Result<Option<DecodedPayload>> {
        let decoder = &mut self.decoder;
        let next = self.source.or(async {
            match decoder.try_next().await {
                Ok(data) => Ok(data.map(|data| data.payload)),
                Err(FlightError::Tonic(status)) => Err(CallError::Status(status)),
                Err(other) => Err(CallError::Final(from_flight(other))),
            }
        });
        match tokio::time::timeout_at(self.deadline, next).await {
            Ok(next) => next.map_err(|error| final_error(&self.client, &self.request_id, error)),
            Err(_) => Err(Error::deadline(format!(
                "the retrieval took longer than {:?}",
                self.timeout
            ))),
        }
    }
}

fn final_error(client: &Client, request_id: &str, error: CallError) -> Error {
    match error {
        CallError::Status(status) => client.decode(&status, request_id),
        CallError::Final(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entity_rows_come_from_one_place() {
        let table = || Entities::batches(Arc::new(Schema::empty()), vec![]);
        let query = || HistoricalQuery::new(["weather:temp"]);
        let check =
            |entities: &Entities, query: HistoricalQuery| check_entities(entities, &query.message);
        assert!(check(&Entities::None, query()).is_err());
        assert!(check(&table(), query()).is_err());
        assert!(check(&table(), query().timestamp("t")).is_ok());
        assert!(check(&table(), query().timestamp("t").sql("SELECT 1")).is_err());
        assert!(check(&Entities::None, query().sql("SELECT 1")).is_ok());
        assert!(
            check(
                &Entities::None,
                query().window(Some(SystemTime::now()), None)
            )
            .is_ok()
        );
    }

    #[test]
    fn the_result_needs_its_last_message() {
        let last = LastMessage::default();
        assert!(matches!(last.result(), Err(Error::DataLoss(_))));
        let result = pb::HistoricalFeaturesResult {
            rows: 3,
            ..Default::default()
        };
        let message = FlightData::new().with_app_metadata(result.encode_to_vec());
        assert!(
            !last.note(&message),
            "a message without data is not for the decoder"
        );
        assert_eq!(last.result().unwrap().rows, 3);
    }
}
