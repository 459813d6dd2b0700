//! Historical retrieval: a table of entity rows goes up, the same rows with their features come down, both as streams over
//! Arrow Flight at the same time.
//!
//! Invariant: an entity table whose reader fails is never taken for one that ended, and a result is complete only with the
//! server's last message. A retrieval is not repeated by itself, for it is an event of the lineage.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
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
    query::{Entities, HistoricalQuery, SourceSnapshot, check_entities},
};
use crate::{
    call::{CallError, MAX_MESSAGE_BYTES, new_request_id},
    client::Client,
    error::{Error, Result},
    outgoing::{SourceError, outgoing},
    tracking::checked_run_id,
};

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
    pub async fn collect(self) -> Result<TrainingSet> {
        self.collect_with(|_| {}).await
    }

    /// As [`HistoricalStream::collect`], and calls `report` with the number of rows that have come in so far.
    ///
    /// # Errors
    /// As [`HistoricalStream::collect`].
    pub async fn collect_with(mut self, mut report: impl FnMut(usize)) -> Result<TrainingSet> {
        let (mut batches, mut rows) = (Vec::new(), 0);
        while let Some(batch) = self.batches.try_next().await? {
            if batch.num_rows() > 0 {
                rows += batch.num_rows();
                batches.push(batch);
                report(rows);
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
