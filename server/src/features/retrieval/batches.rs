//! Tables as Flight messages of bounded size.
//!
//! Invariant: what arrives has the same schema, values and order as what was sent.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, RecordBatch, RecordBatchOptions},
    datatypes::{DataType, SchemaRef},
};
use arrow_flight::{
    FlightData,
    encode::{DictionaryHandling, FlightDataEncoderBuilder},
    error::FlightError,
};
use futures::{Stream, StreamExt as _};
use tokio::sync::mpsc;

use crate::error::{Error, Result};

/// Size of a message that is aimed at, in bytes.
const TARGET_BYTES: usize = 2 << 20;

/// Sends batches until all are sent or nobody listens any more. Returns how many rows were sent.
pub(super) async fn send(
    schema: SchemaRef,
    batches: impl Stream<Item = Result<RecordBatch>> + Send + '_,
    sender: &mpsc::Sender<FlightData>,
) -> Result<u64> {
    let mut rows = 0;
    let mut batches = std::pin::pin!(batches);
    // The encoder wants a stream that lives forever, so it gets a channel of one place.
    let (parts, waiting) = mpsc::channel::<Result<RecordBatch, FlightError>>(1);
    let mut encoder = FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .with_dictionary_handling(DictionaryHandling::Resend)
        // Cut already, by what a slice holds and not by the buffers it points into.
        .with_max_flight_data_size(usize::MAX)
        .build(tokio_stream::wrappers::ReceiverStream::new(waiting));
    let produce = async {
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            for part in split(&batch)? {
                rows += part.num_rows() as u64;
                if parts.send(Ok(part)).await.is_err() {
                    break;
                }
            }
        }
        drop(parts);
        Ok::<_, Error>(())
    };
    let deliver = async {
        while let Some(message) = encoder.next().await {
            let message = message.map_err(|error| Error::internal(anyhow::anyhow!("{error}")))?;
            if sender.send(message).await.is_err() {
                break; // the client is gone, and this task is about to be cancelled
            }
        }
        Ok(())
    };
    tokio::try_join!(produce, deliver)?;
    Ok(rows)
}

/// Slices of about the target size, that hold no more than their own rows.
fn split(batch: &RecordBatch) -> Result<Vec<RecordBatch>> {
    let mut parts = Vec::new();
    let mut waiting = vec![(batch.clone(), usize::MAX)];
    while let Some((batch, size_before)) = waiting.pop() {
        let rows = batch.num_rows();
        let size = batch.columns().iter().map(size_of).sum::<usize>();
        // Cutting must help: what did not get smaller points into something that all parts share.
        if rows <= 1 || size <= TARGET_BYTES || size >= size_before / 10 * 9 {
            parts.push(compact(&batch)?);
            continue;
        }
        let step = rows
            .div_ceil(size.div_ceil(TARGET_BYTES))
            .clamp(1, rows - 1);
        let starts: Vec<usize> = (0..rows).step_by(step).collect();
        for start in starts.into_iter().rev() {
            waiting.push((batch.slice(start, step.min(rows - start)), size));
        }
    }
    Ok(parts)
}

/// Bytes that an array takes in a message, about.
fn size_of(array: &ArrayRef) -> usize {
    let view = |lengths: &mut dyn Iterator<Item = u32>| -> usize {
        let long = lengths.filter(|length| *length > 12);
        array.len() * 16 + long.map(|length| length as usize).sum::<usize>()
    };
    match array.data_type() {
        DataType::Utf8View => view(&mut array.as_string_view().lengths()),
        DataType::BinaryView => view(&mut array.as_binary_view().lengths()),
        // The values are a message of their own.
        DataType::Dictionary(key, _) => array.len() * key.primitive_width().unwrap_or(8),
        DataType::Struct(_) => array.as_struct().columns().iter().map(size_of).sum(),
        _ => array
            .to_data()
            .get_slice_memory_size()
            .unwrap_or_else(|_| array.get_array_memory_size()),
    }
}

/// Copies what views point at, for a slice of views would otherwise carry the text of the whole table.
fn compact(batch: &RecordBatch) -> Result<RecordBatch> {
    let has_views =
        |array: &ArrayRef| matches!(array.data_type(), DataType::Utf8View | DataType::BinaryView);
    if !batch.columns().iter().any(has_views) {
        return Ok(batch.clone());
    }
    let columns = batch.columns().iter().map(|array| -> ArrayRef {
        match array.data_type() {
            DataType::Utf8View => Arc::new(array.as_string_view().gc()),
            DataType::BinaryView => Arc::new(array.as_binary_view().gc()),
            _ => array.clone(),
        }
    });
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(batch.schema(), columns.collect(), &options)
        .map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{Int64Array, StringViewArray},
        compute::concat_batches,
    };
    use arrow_flight::decode::FlightRecordBatchStream;
    use futures::{TryStreamExt as _, stream};

    use super::*;

    #[tokio::test]
    async fn messages_are_bounded_and_lose_nothing() {
        let rows = 200_000;
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        let texts = (0..rows).map(|n| format!("a text that is too long for the view itself: {n}"));
        let texts: ArrayRef = Arc::new(StringViewArray::from_iter_values(texts));
        let batch = RecordBatch::try_from_iter([("n", numbers), ("t", texts)]).unwrap();
        let (sender, mut receiver) = mpsc::channel(1);
        let sent = batch.clone();
        let sending = tokio::spawn(async move {
            let batches =
                stream::iter([Ok(sent.slice(0, 150_000)), Ok(sent.slice(150_000, 50_000))]);
            send(sent.schema(), batches, &sender).await.unwrap()
        });
        let mut messages = Vec::new();
        while let Some(message) = receiver.recv().await {
            assert!(message.data_body.len() < TARGET_BYTES * 3 / 2);
            messages.push(Ok(message));
        }
        assert_eq!(sending.await.unwrap(), rows as u64);
        let decoded = FlightRecordBatchStream::new_from_flight_data(stream::iter(messages));
        let decoded: Vec<RecordBatch> = decoded.try_collect().await.unwrap();
        assert_eq!(concat_batches(&batch.schema(), &decoded).unwrap(), batch);
    }
}
