//! A digest of the content of a table, for inputs of runs.
//!
//! Invariant: the digest depends on names, kinds and values of the columns and on the order of the rows, and not on how the
//! rows come in batches, nor on which of several Arrow types for one kind (strings, dictionaries) a library chose. Memory is
//! bounded by a block; of long tables a part of the blocks is read that grows with the logarithm of their length, and the
//! digest says so.

use arrow::{
    array::RecordBatch,
    compute::cast,
    datatypes::{DataType, Schema},
    error::ArrowError,
    row::{RowConverter, SortField},
};
use sha2::{Digest as _, Sha256};

use super::DatasetInput;

/// Rows that are read or left out together.
const BLOCK: usize = 4096;
/// Blocks that are always read: a million rows.
const WHOLE: usize = 256;

/// A digest in the making.
#[derive(Debug)]
pub struct TableDigest {
    hash: Sha256,
    converter: RowConverter,
    types: Vec<DataType>,
    rows: u64,
    sampled: bool,
    fields: Vec<(String, String)>,
}

impl TableDigest {
    /// A digest of a table with these columns.
    ///
    /// # Errors
    /// For types that have no order, such as maps.
    pub fn new(schema: &Schema) -> Result<Self, ArrowError> {
        let mut hash = Sha256::new();
        let mut types = Vec::new();
        for field in schema.fields() {
            let of_kind = kind(field.data_type());
            for part in [field.name(), &of_kind.to_string()] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part.as_bytes());
            }
            types.push(of_kind);
        }
        let sorted = types.iter().cloned().map(SortField::new).collect();
        Ok(Self {
            hash,
            converter: RowConverter::new(sorted)?,
            types,
            rows: 0,
            sampled: false,
            fields: schema
                .fields()
                .iter()
                .map(|field| (field.name().clone(), field.data_type().to_string()))
                .collect(),
        })
    }

    /// Takes the next rows.
    ///
    /// # Errors
    /// When the batch does not fit the schema.
    pub fn update(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let mut at = 0;
        while at < batch.num_rows() {
            let row = usize::try_from(self.rows).unwrap_or(usize::MAX);
            let length = (BLOCK - row % BLOCK).min(batch.num_rows() - at);
            if is_read(row / BLOCK) {
                self.read(&batch.slice(at, length))?;
            } else {
                self.sampled = true;
            }
            self.rows += length as u64;
            at += length;
        }
        Ok(())
    }

    fn read(&mut self, rows: &RecordBatch) -> Result<(), ArrowError> {
        if self.types.is_empty() {
            return Ok(());
        }
        let columns = rows
            .columns()
            .iter()
            .zip(&self.types)
            .map(|(column, of_kind)| {
                if column.data_type() == of_kind {
                    Ok(column.clone())
                } else {
                    cast(column, of_kind)
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        let encoded = self.converter.convert_columns(&columns)?;
        for row in &encoded {
            self.hash.update((row.as_ref().len() as u64).to_le_bytes());
            self.hash.update(row.as_ref());
        }
        Ok(())
    }

    /// The digest as text, with the number of rows and the columns, as an input of this name.
    pub fn finish(mut self, name: impl Into<String>) -> DatasetInput {
        self.hash.update(self.rows.to_le_bytes());
        let mut digest = hex::encode(&self.hash.finalize()[..16]);
        if self.sampled {
            digest = format!("sampled-{digest}");
        }
        let mut input = DatasetInput::new(name, digest).rows(self.rows);
        input.fields = self.fields;
        input
    }
}

/// All of the first ones; then of each doubling of the length as many as there are between half of `WHOLE` and none.
fn is_read(block: usize) -> bool {
    match (block / WHOLE).checked_ilog2() {
        None => true,
        Some(doublings) => block.is_multiple_of(2 << doublings),
    }
}

/// One type for each kind.
fn kind(of: &DataType) -> DataType {
    match of {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::LargeUtf8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => DataType::LargeBinary,
        DataType::Dictionary(_, values) => kind(values),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{ArrayRef, DictionaryArray, Int64Array, LargeStringArray, StringArray},
        datatypes::Int32Type,
    };

    use super::*;

    fn table(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter(columns).expect("a table")
    }

    fn digest(batches: &[RecordBatch]) -> DatasetInput {
        let mut digest = TableDigest::new(&batches[0].schema()).expect("a digest");
        for batch in batches {
            digest.update(batch).expect("taken");
        }
        digest.finish("t")
    }

    fn numbers(count: i64) -> RecordBatch {
        table(vec![("n", Arc::new(Int64Array::from_iter(0..count)))])
    }

    #[test]
    fn batches_do_not_matter_and_values_do() {
        let whole = numbers(10_000);
        let cut = [
            whole.slice(0, 1),
            whole.slice(1, 5000),
            whole.slice(5001, 4999),
        ];
        assert_eq!(digest(std::slice::from_ref(&whole)), digest(&cut));
        assert_ne!(digest(&[whole]).digest, digest(&[numbers(9999)]).digest);
    }

    #[test]
    fn strings_are_strings() {
        let words = ["a", "b", "a"];
        let plain: ArrayRef = Arc::new(StringArray::from_iter_values(words));
        let large: ArrayRef = Arc::new(LargeStringArray::from_iter_values(words));
        let coded: DictionaryArray<Int32Type> = words.into_iter().collect();
        let digests: Vec<String> = [plain, large, Arc::new(coded)]
            .into_iter()
            .map(|column| digest(&[table(vec![("w", column)])]).digest)
            .collect();
        assert!(
            digests.iter().all(|digest| *digest == digests[0]),
            "{digests:?}"
        );
    }

    #[test]
    fn long_tables_are_sampled_and_say_so() {
        let read = |blocks: usize| (0..blocks).filter(|block| is_read(*block)).count();
        assert_eq!((read(256), read(512), read(1024)), (256, 384, 512));
        let long = digest(&[numbers(2_000_000)]);
        assert!(long.digest.starts_with("sampled-"), "{}", long.digest);
        assert_eq!(long.rows, Some(2_000_000));
    }
}
