//! Parquet files for tests.

use std::{fs::File, path::Path};

use arrow::array::RecordBatch;
use parquet::arrow::ArrowWriter;

/// Writes a table to a file.
pub fn write(path: &Path, batch: &RecordBatch) {
    let file = File::create(path).expect("a file");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
    writer.write(batch).expect("written");
    writer.close().expect("closed");
}
