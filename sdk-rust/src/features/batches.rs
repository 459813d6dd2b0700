//! Tables as Flight messages: cut into parts of bounded size, and back.
//!
//! Invariant: what arrives has the same schema, values and order as what was sent, dictionary and view types included; a
//! message stays near [`TARGET_BYTES`], unless a single row is larger. This module does not know what the tables mean.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray as _, BinaryViewArray, FixedSizeListArray, GenericListArray,
        OffsetSizeTrait, RecordBatch, RecordBatchReader, StringViewArray, StructArray,
    },
    buffer::OffsetBuffer,
    datatypes::{DataType, SchemaRef},
};
use arrow_flight::{
    FlightData, FlightDescriptor,
    encode::{DictionaryHandling, FlightDataEncoderBuilder},
    error::FlightError,
};
use futures::{Stream, StreamExt as _, stream};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    call::MAX_MESSAGE_BYTES,
    error::{Error, Result},
};

/// Size of a message that is aimed at, in bytes.
const TARGET_BYTES: usize = 2 << 20;

/// The rows of a reader as Flight messages, read off the async threads and only a little ahead of the network.
pub(super) fn encode(
    reader: Box<dyn RecordBatchReader + Send>,
    descriptor: FlightDescriptor,
) -> impl Stream<Item = Result<FlightData>> + Send + 'static {
    let schema = reader.schema();
    let (sender, receiver) = mpsc::channel(2);
    tokio::task::spawn_blocking(move || {
        for batch in reader {
            let parts = match batch {
                Ok(batch) => split(&batch),
                Err(error) => Err(error.into()),
            };
            let parts = match parts {
                Ok(parts) => parts,
                Err(error) => {
                    // The receiver is gone only when the call is over already.
                    let _ = sender.blocking_send(Err(FlightError::ExternalError(Box::new(error))));
                    return;
                }
            };
            for part in parts {
                if sender.blocking_send(Ok(part)).is_err() {
                    return;
                }
            }
        }
    });
    FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .with_flight_descriptor(Some(descriptor))
        .with_dictionary_handling(DictionaryHandling::Resend)
        // Cut already, by what a slice holds and not by the buffers it points into.
        .with_max_flight_data_size(usize::MAX)
        .build(ReceiverStream::new(receiver))
        .map(|message| message.map_err(from_flight).and_then(fitting))
}

/// The message, unless a single row makes it larger than any server takes.
fn fitting(message: FlightData) -> Result<FlightData> {
    let bytes = message.encoded_len();
    if bytes > MAX_MESSAGE_BYTES {
        return Err(Error::too_large(
            "a row of the entity table",
            bytes,
            MAX_MESSAGE_BYTES,
        ));
    }
    Ok(message)
}

/// The one message of a request without a table.
pub(super) fn bare(
    descriptor: FlightDescriptor,
) -> impl Stream<Item = Result<FlightData>> + Send + 'static {
    stream::once(async { Ok(FlightData::new().with_descriptor(descriptor)) })
}

/// A local failure of Flight as an error of this crate.
pub(super) fn from_flight(error: FlightError) -> Error {
    match error {
        FlightError::Arrow(error) => error.into(),
        FlightError::ExternalError(error) => match error.downcast::<Error>() {
            Ok(error) => *error,
            Err(error) => Error::data_loss(error.to_string()),
        },
        other => Error::data_loss(other.to_string()),
    }
}

/// Slices of about the target size, that hold no more than their own rows.
fn split(batch: &RecordBatch) -> Result<Vec<RecordBatch>> {
    let mut parts = Vec::new();
    let mut waiting = vec![(batch.clone(), usize::MAX)];
    while let Some((batch, size_before)) = waiting.pop() {
        let (rows, size) = (
            batch.num_rows(),
            batch.columns().iter().map(size_of).sum::<usize>(),
        );
        // Cutting must help: a part that did not get smaller points into something that all parts share.
        if rows <= 1 || size <= TARGET_BYTES || size >= size_before / 10 * 9 {
            parts.push(compact_batch(&batch, batch.schema())?);
            continue;
        }
        let rows_per_part = rows
            .div_ceil(size.div_ceil(TARGET_BYTES))
            .clamp(1, rows - 1);
        let starts: Vec<usize> = (0..rows).step_by(rows_per_part).collect();
        for start in starts.into_iter().rev() {
            waiting.push((batch.slice(start, rows_per_part.min(rows - start)), size));
        }
    }
    Ok(parts)
}

/// Bytes that an array takes in a message, roughly.
fn size_of(array: &ArrayRef) -> usize {
    match array.data_type() {
        DataType::Utf8View => view_size(array.as_string_view().lengths(), array.len()),
        DataType::BinaryView => view_size(array.as_binary_view().lengths(), array.len()),
        // The values are a message of their own, sent once.
        DataType::Dictionary(key, _) => array.len() * key.primitive_width().unwrap_or(8),
        DataType::Struct(_) => array.as_struct().columns().iter().map(size_of).sum(),
        _ => array
            .to_data()
            .get_slice_memory_size()
            .unwrap_or_else(|_| array.get_array_memory_size()),
    }
}

fn view_size(lengths: impl Iterator<Item = u32>, rows: usize) -> usize {
    rows * 16
        + lengths
            .filter(|length| *length > 12)
            .map(|length| length as usize)
            .sum::<usize>()
}

fn compact_batch(batch: &RecordBatch, schema: SchemaRef) -> Result<RecordBatch> {
    if !schema
        .fields()
        .iter()
        .any(|field| has_views(field.data_type()))
    {
        return Ok(batch.clone());
    }
    let columns = batch.columns().iter().map(compact).collect::<Result<_>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(
        schema, columns, &options,
    )?)
}

fn has_views(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8View | DataType::BinaryView => true,
        DataType::Struct(fields) => fields.iter().any(|field| has_views(field.data_type())),
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            has_views(field.data_type())
        }
        _ => false,
    }
}

/// Copies what views point at, as a slice of views would otherwise carry the buffers of the whole table.
fn compact(array: &ArrayRef) -> Result<ArrayRef> {
    if !has_views(array.data_type()) {
        return Ok(array.clone());
    }
    Ok(match array.data_type() {
        DataType::Utf8View => Arc::new(StringViewArray::gc(array.as_string_view())),
        DataType::BinaryView => Arc::new(BinaryViewArray::gc(array.as_binary_view())),
        DataType::Struct(fields) => {
            let array = array.as_struct();
            let columns = array.columns().iter().map(compact).collect::<Result<_>>()?;
            Arc::new(StructArray::try_new(
                fields.clone(),
                columns,
                array.nulls().cloned(),
            )?)
        }
        DataType::List(_) => Arc::new(compact_list(array.as_list::<i32>())?),
        DataType::LargeList(_) => Arc::new(compact_list(array.as_list::<i64>())?),
        DataType::FixedSizeList(field, size) => {
            let array = array.as_fixed_size_list();
            let values = compact(array.values())?;
            Arc::new(FixedSizeListArray::try_new(
                field.clone(),
                *size,
                values,
                array.nulls().cloned(),
            )?)
        }
        _ => array.clone(),
    })
}

fn compact_list<O: OffsetSizeTrait>(array: &GenericListArray<O>) -> Result<GenericListArray<O>> {
    let (DataType::List(field) | DataType::LargeList(field)) = array.data_type() else {
        return Ok(array.clone());
    };
    let offsets = array.value_offsets();
    let (first, last) = (offsets[0].as_usize(), offsets[offsets.len() - 1].as_usize());
    let values = compact(&array.values().slice(first, last - first))?;
    let lengths = offsets
        .windows(2)
        .map(|pair| pair[1].as_usize() - pair[0].as_usize());
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(GenericListArray::try_new(
        field.clone(),
        offsets,
        values,
        array.nulls().cloned(),
    )?)
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{
            DictionaryArray, Float64Array, Int64Array, ListArray, RecordBatchIterator,
            StringViewBuilder,
        },
        compute::concat_batches,
        datatypes::{Field, Int32Type, Schema},
    };
    use arrow_flight::decode::FlightRecordBatchStream;
    use futures::TryStreamExt as _;

    use super::*;

    fn batch_of(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, array)| (name, array, true)),
        )
        .unwrap()
    }

    fn wide_views(rows: usize) -> ArrayRef {
        let mut builder = StringViewBuilder::new();
        for row in 0..rows {
            builder.append_value(format!(
                "a text that does not fit into the view itself, number {row}"
            ));
        }
        Arc::new(builder.finish())
    }

    async fn round_trip(batches: Vec<RecordBatch>) -> (Vec<usize>, RecordBatch) {
        let schema = batches[0].schema();
        let reader = RecordBatchIterator::new(batches.into_iter().map(Ok), schema.clone());
        let messages: Vec<FlightData> = encode(Box::new(reader), FlightDescriptor::new_cmd("q"))
            .try_collect()
            .await
            .unwrap();
        assert_eq!(
            &messages[0].flight_descriptor.as_ref().unwrap().cmd[..],
            b"q"
        );
        let sizes = messages.iter().map(|m| m.data_body.len()).collect();
        let decoded = FlightRecordBatchStream::new_from_flight_data(stream::iter(
            messages.into_iter().map(Ok),
        ));
        let decoded: Vec<RecordBatch> = decoded.try_collect().await.unwrap();
        (sizes, concat_batches(&schema, &decoded).unwrap())
    }

    #[tokio::test]
    async fn large_tables_are_cut_into_bounded_messages() {
        let rows = 500_000;
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        let floats: ArrayRef =
            Arc::new(Float64Array::from_iter_values((0..rows).map(|n| n as f64)));
        let batch = batch_of(vec![
            ("n", numbers),
            ("f", floats),
            ("s", wide_views(rows as usize)),
        ]);
        // Slices of a large table, as readers give them: what counts is the slice, not the table behind it.
        let slices = (0..rows as usize)
            .step_by(50_000)
            .map(|at| batch.slice(at, 50_000))
            .collect();
        let (sizes, decoded) = round_trip(slices).await;
        assert_eq!(decoded, batch);
        assert!(
            sizes.iter().all(|size| *size < TARGET_BYTES * 3 / 2),
            "{sizes:?}"
        );
        assert!(sizes.len() < 60, "{} messages", sizes.len());
    }

    #[tokio::test]
    async fn dictionaries_and_nested_views_keep_their_types() {
        let keys: DictionaryArray<Int32Type> =
            (0..1000).map(|n| ["JFK", "LGA", "EWR"][n % 3]).collect();
        let views = wide_views(3000);
        let field = Arc::new(Field::new_list_field(DataType::Utf8View, true));
        let lists = ListArray::new(
            field,
            OffsetBuffer::from_lengths(vec![3; 1000]),
            views.clone(),
            None,
        );
        let fields = vec![Field::new("v", DataType::Utf8View, true)];
        let structs = StructArray::new(fields.into(), vec![views.slice(7, 1000)], None);
        let batch = batch_of(vec![
            ("k", Arc::new(keys)),
            ("l", Arc::new(lists) as ArrayRef),
            ("s", Arc::new(structs)),
        ]);
        let (sizes, decoded) = round_trip(vec![batch.slice(0, 10), batch.slice(10, 990)]).await;
        assert_eq!(decoded, batch);
        assert!(
            sizes.iter().max() < Some(&400_000),
            "the slice of ten rows carries only its own text: {sizes:?}"
        );
    }

    #[tokio::test]
    async fn empty_tables_still_have_a_schema() {
        let batch = batch_of(vec![("n", Arc::new(Int64Array::from_iter_values([])))]);
        let schema: Schema = batch.schema().as_ref().clone();
        let (_, decoded) = round_trip(vec![batch]).await;
        assert_eq!(
            (decoded.num_rows(), decoded.schema().as_ref()),
            (0, &schema)
        );
    }

    #[tokio::test]
    async fn a_reader_that_fails_is_an_error() {
        let batch = batch_of(vec![("n", Arc::new(Int64Array::from_iter_values([1])))]);
        let failure = arrow::error::ArrowError::ComputeError("no more".into());
        let reader = RecordBatchIterator::new([Ok(batch.clone()), Err(failure)], batch.schema());
        let outcome: Result<Vec<FlightData>> =
            encode(Box::new(reader), FlightDescriptor::new_cmd("q"))
                .try_collect()
                .await;
        assert!(outcome.unwrap_err().to_string().contains("no more"));
    }

    #[test]
    fn one_huge_row_stays_one_message() {
        let text: ArrayRef = Arc::new(StringViewArray::from(vec!["x".repeat(3 * TARGET_BYTES)]));
        assert_eq!(split(&batch_of(vec![("t", text)])).unwrap().len(), 1);
    }
}
