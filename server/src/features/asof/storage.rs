//! The form in which feature values are kept while a join runs: owned by us, sharing nothing with the batches they
//! came from, so that dropping a batch frees it and memory can be counted.
//!
//! Dictionary and run-end encoded columns are kept as plain values and encoded again when they leave: merging the
//! dictionaries of many batches could overflow a small index type although the values that are needed fit.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array, make_array, new_null_array};
use arrow::compute::{cast, interleave, take};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use super::Result;
use super::keys::plain;

/// The type in which values of `data_type` are kept.
pub(super) fn stored_type(data_type: &DataType) -> &DataType {
    use DataType::{Binary, Date32, Date64, LargeBinary, LargeUtf8, Timestamp, Utf8, Utf8View};
    match data_type {
        // exactly the value types that can be encoded again
        DataType::Dictionary(_, values) => match values.as_ref() {
            values if values.is_numeric() => values,
            values @ (Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | Date32 | Date64
            | Timestamp(..)) => values,
            _ => data_type,
        },
        DataType::RunEndEncoded(_, values) if !values.data_type().is_nested() => {
            plain(values.data_type())
        }
        _ => data_type,
    }
}

/// The rows of `column` at `rows`, in stored form.
pub(super) fn pick(column: &ArrayRef, rows: &UInt32Array) -> Result<ArrayRef> {
    let stored = stored_type(column.data_type());
    let picked = match column.data_type() {
        // few rows of a run-end encoded column are wanted, but taking them needs random access
        DataType::RunEndEncoded(..) => take(&cast(column, stored)?, rows, None)?,
        _ => take(column, rows, None)?,
    };
    detach(if picked.data_type() == stored {
        picked
    } else {
        cast(&picked, stored)?
    })
}

/// Rows of several stored arrays, by (array, row), in stored form.
pub(super) fn gather(columns: &[&dyn Array], rows: &[(usize, usize)]) -> Result<ArrayRef> {
    detach(interleave(columns, rows)?)
}

/// Rows of stored arrays by (array, row), null where there is none, as an array of `data_type`.
pub(super) fn deliver(
    columns: &[ArrayRef],
    rows: &[Option<(u32, u32)>],
    data_type: &DataType,
) -> Result<ArrayRef, ArrowError> {
    let stored = match columns {
        [] => return Ok(new_null_array(data_type, rows.len())),
        [column] => {
            let rows: UInt32Array = rows.iter().map(|row| row.map(|(_, row)| row)).collect();
            take(column, &rows, None)?
        }
        columns => {
            let null = new_null_array(columns[0].data_type(), 1);
            let arrays: Vec<&dyn Array> = std::iter::once(&null)
                .chain(columns)
                .map(AsRef::as_ref)
                .collect();
            let rows: Vec<(usize, usize)> = rows
                .iter()
                .map(|row| row.map_or((0, 0), |(array, row)| (array as usize + 1, row as usize)))
                .collect();
            interleave(&arrays, &rows)?
        }
    };
    if stored.data_type() == data_type {
        Ok(stored)
    } else {
        cast(&stored, data_type)
    }
}

/// Copies what `array` shares with others: string and binary views point into the buffers of the batch they came
/// from, which would stay alive as a whole.
fn detach(array: ArrayRef) -> Result<ArrayRef> {
    match array.data_type() {
        DataType::Utf8View => Ok(Arc::new(array.as_string_view().gc())),
        DataType::BinaryView => Ok(Arc::new(array.as_binary_view().gc())),
        data_type if holds_views(data_type) => {
            let data = array.to_data();
            let children = data
                .child_data()
                .iter()
                .map(|child| Ok(detach(make_array(child.clone()))?.to_data()));
            let children = children.collect::<Result<Vec<_>>>()?;
            Ok(make_array(
                data.into_builder().child_data(children).build()?,
            ))
        }
        _ => Ok(array),
    }
}

/// Whether views are somewhere inside the type.
fn holds_views(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8View | DataType::BinaryView => true,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _)
        | DataType::RunEndEncoded(_, field) => holds_views(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| holds_views(field.data_type())),
        DataType::Union(fields, _) => fields
            .iter()
            .any(|(_, field)| holds_views(field.data_type())),
        DataType::Dictionary(_, values) => holds_views(values),
        _ => false,
    }
}
