//! The flights of the main example as rows for a linear model: what was known when a flight was scheduled, and whether it
//! came in late.
//!
//! Invariant: flights up to September train, later ones validate; nothing of the latter reaches the training.

use std::{collections::BTreeMap, fs::File, path::Path};

use anyhow::Context as _;
use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, RecordBatch},
    compute::cast,
    datatypes::{DataType, Float64Type},
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// A flight that arrives this many minutes after its time is late.
pub const LATE_MINUTES: f64 = 15.0;
/// The last month that is trained on.
const LAST_TRAINING_MONTH: f64 = 9.0;
/// Columns whose every value gets a weight of its own.
const CATEGORIES: [&str; 6] = ["carrier", "origin", "dest", "month", "weekday", "hour"];

/// One flight: the weights that apply to it, its distance in 1,000 miles, and whether it was late.
#[derive(Debug, Clone, PartialEq)]
pub struct Flight {
    pub active: [u32; CATEGORIES.len()],
    pub distance: f64,
    pub late: bool,
}

/// Flights to train on and flights to validate with, over the same features.
#[derive(Debug, Default)]
pub struct Flights {
    pub training: Vec<Flight>,
    pub validation: Vec<Flight>,
    /// `carrier=UA` and the like, by number.
    pub features: BTreeMap<String, u32>,
}

impl Flights {
    /// Reads the table that `examples/flight_delays` has prepared. Flights without an arrival are left out.
    pub fn read(table: &Path) -> anyhow::Result<Self> {
        let file = File::open(table).with_context(|| {
            format!(
                "cannot open {}; `python examples/flight_delays/main.py` makes it (`make demo` does both)",
                table.display()
            )
        })?;
        let mut flights = Self::default();
        for batch in ParquetRecordBatchReaderBuilder::try_new(file)?.build()? {
            flights.append(&batch?)?;
        }
        Ok(flights)
    }

    fn append(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        let categories = CATEGORIES
            .iter()
            .map(|name| column(batch, name, &DataType::Utf8))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let numbers = ["month", "distance", "arr_delay"]
            .iter()
            .map(|name| column(batch, name, &DataType::Float64))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let [month, distance, delay] =
            [0, 1, 2].map(|index| numbers[index].as_primitive::<Float64Type>());
        for row in (0..batch.num_rows()).filter(|&row| delay.is_valid(row)) {
            let mut active = [0; CATEGORIES.len()];
            for ((slot, name), values) in active.iter_mut().zip(CATEGORIES).zip(&categories) {
                *slot = self.feature(name, values.as_string::<i32>().value(row));
            }
            let flight = Flight {
                active,
                distance: distance.value(row) / 1000.0,
                late: delay.value(row) > LATE_MINUTES,
            };
            if month.value(row) <= LAST_TRAINING_MONTH {
                self.training.push(flight);
            } else {
                self.validation.push(flight);
            }
        }
        Ok(())
    }

    fn feature(&mut self, column: &str, value: &str) -> u32 {
        let name = format!("{column}={value}");
        if let Some(number) = self.features.get(&name) {
            return *number;
        }
        let number = u32::try_from(self.features.len()).unwrap_or(u32::MAX);
        self.features.insert(name, number);
        number
    }
}

fn column(batch: &RecordBatch, name: &str, wanted: &DataType) -> anyhow::Result<ArrayRef> {
    let column = batch
        .column_by_name(name)
        .with_context(|| format!("the table has no column `{name}`"))?;
    Ok(cast(column, wanted)?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, StringArray};

    use super::*;

    #[test]
    fn months_are_split_and_unknown_arrivals_left_out() {
        let texts = |value: &str| Arc::new(StringArray::from(vec![value; 3])) as ArrayRef;
        let months = Arc::new(Int64Array::from(vec![9, 10, 1])) as ArrayRef;
        let ones = Arc::new(Int64Array::from(vec![1; 3])) as ArrayRef;
        let delays = Arc::new(Float64Array::from(vec![Some(16.0), Some(15.0), None])) as ArrayRef;
        let columns: [(&str, ArrayRef); 8] = [
            ("carrier", texts("UA")),
            ("origin", texts("JFK")),
            ("dest", texts("LAX")),
            ("month", months),
            ("weekday", ones.clone()),
            ("hour", ones.clone()),
            ("distance", Arc::new(Int64Array::from(vec![2475; 3]))),
            ("arr_delay", delays),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns.map(|(name, values)| (name, values, true)),
        )
        .expect("a batch");
        let mut flights = Flights::default();
        flights.append(&batch).expect("fits");
        assert_eq!(flights.training.len(), 1);
        assert_eq!(flights.validation.len(), 1);
        assert!(flights.training[0].late && !flights.validation[0].late);
        assert!((flights.training[0].distance - 2.475).abs() < 1e-12);
        assert_eq!(
            flights.features.len(),
            7,
            "two months, one value of each other column"
        );
    }
}
