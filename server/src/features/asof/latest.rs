//! [`Latest`]: per key the greatest feature row of a window, for materialization.
//!
//! It ranks rows exactly as [`AsOf`](super::AsOf) does, so that online reads equal historical retrieval. Memory grows
//! with the number of keys; a caller that must bound it takes what is there and goes on, which is right for every
//! store that lets an older row never replace a newer one. This file must not know where rows go.

use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{Schema, SchemaRef};

use super::budget::Budget;
use super::columns::{FeatureColumns, project};
use super::keys::{KeyEncoder, KeyForm, KeyMap};
use super::winners::{Rank, Winners};
use super::{AsOfError, FeatureSide, Result, time};

/// Per key the feature row with the greatest event timestamp in a window; ties as in [`AsOf`](super::AsOf).
#[derive(Debug)]
pub struct Latest {
    features: FeatureColumns,
    encoder: KeyEncoder,
    window: (Bound<i128>, Bound<i128>),
    keys: KeyMap,
    winners: Winners,
    /// The columns of the result, by their position in the feature schema.
    output: Vec<usize>,
    schema: SchemaRef,
    budget: Budget,
    failed: bool,
}

impl Latest {
    /// Starts with no rows. `window` bounds the event timestamps, in nanoseconds since 1970-01-01T00:00:00Z; the rows of
    /// a static view are always inside. `memory_limit` is in bytes.
    ///
    /// # Errors
    /// Columns that are missing or of unusable types.
    pub fn new(
        features: &FeatureSide,
        window: (Bound<i128>, Bound<i128>),
        memory_limit: usize,
    ) -> Result<Self> {
        let columns = FeatureColumns::resolve(features)?;
        let mut forms = Vec::with_capacity(columns.keys.len());
        for (&index, name) in columns.keys.iter().zip(&features.keys) {
            let data_type = columns.table.data_type(index);
            forms.push(KeyForm::of(data_type, data_type).ok_or_else(|| {
                AsOfError::KeyUnsupported {
                    view: columns.view.clone(),
                    column: name.clone(),
                    data_type: data_type.clone(),
                }
            })?);
        }
        let mut output = Vec::new();
        for &index in columns
            .keys
            .iter()
            .chain(&columns.event)
            .chain(&columns.created)
            .chain(&columns.features)
        {
            if !output.contains(&index) {
                output.push(index);
            }
        }
        Ok(Self {
            encoder: KeyEncoder::new(forms, features.keys.clone(), columns.table.name.clone())?,
            window,
            keys: KeyMap::default(),
            winners: Winners::default(),
            schema: Arc::new(columns.table.schema.project(&output)?),
            output,
            budget: Budget {
                view: columns.view.clone(),
                limit: memory_limit,
            },
            features: columns,
            failed: false,
        })
    }

    /// The schema of [`Latest::take`]: join keys, event timestamp, created timestamp, features; each column once.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Keys that have a row.
    pub fn len(&self) -> usize {
        self.winners.live()
    }

    /// Whether no key has a row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held.
    pub fn retained_bytes(&self) -> usize {
        self.keys.retained_bytes() + self.winners.retained_bytes()
    }

    /// Takes in feature rows that were written after all rows pushed before.
    ///
    /// # Errors
    /// A batch that does not have the declared schema; the memory limit; after an error every further call fails.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        self.push_part(0, batch)
    }

    /// Takes in feature rows of one part of the source; see [`AsOf::push_part`](super::AsOf::push_part).
    ///
    /// # Errors
    /// As [`Latest::push`].
    pub fn push_part(&mut self, part: u32, batch: &RecordBatch) -> Result<()> {
        self.usable()?;
        let outcome = self.accept(part, batch);
        self.failed = outcome.is_err();
        outcome
    }

    /// The row of every key, in no particular order, leaving nothing behind. Rows pushed later start anew.
    ///
    /// # Errors
    /// If a push had failed.
    pub fn take(&mut self) -> Result<Vec<RecordBatch>> {
        self.usable()?;
        self.keys = KeyMap::default();
        let mut winners = std::mem::take(&mut self.winners);
        winners.compact()?;
        winners
            .into_chunks()
            .into_iter()
            .filter(|(_, rows)| *rows > 0)
            .map(|chunk| self.deliver(chunk))
            .collect()
    }

    fn deliver(&self, (columns, rows): (Vec<ArrayRef>, usize)) -> Result<RecordBatch> {
        let each = columns
            .iter()
            .zip(self.schema.fields())
            .map(|(column, field)| {
                let encoded = cast(column, field.data_type());
                encoded.map_err(|error| AsOfError::of_delivery(&self.features.view, field, error))
            });
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(
            self.schema.clone(),
            each.collect::<Result<_>>()?,
            &options,
        )?)
    }

    fn usable(&self) -> Result<()> {
        if self.failed {
            Err(AsOfError::Failed {
                view: self.features.view.clone(),
            })
        } else {
            Ok(())
        }
    }

    fn accept(&mut self, part: u32, batch: &RecordBatch) -> Result<()> {
        self.features.check(batch)?;
        let rows = batch.num_rows();
        if rows >= u32::MAX as usize - self.keys.len() {
            return Err(AsOfError::TooManyRows {
                table: self.features.table.name.clone(),
                limit: u32::MAX as usize,
            });
        }
        let (events, created) = self.features.instants(batch);
        let inside = |event: i128| {
            event == time::ALWAYS || (event != time::ABSENT && self.window.contains(&event))
        };
        if !events.iter().any(|&event| inside(event)) {
            return Ok(());
        }
        let keys = self
            .encoder
            .encode(&project(batch, &self.features.keys), rows)?;
        for row in (0..rows).filter(|&row| inside(events[row])) {
            let Some(key) = keys.get(row) else { continue };
            let (slot, is_new) = self.keys.intern(key);
            if is_new {
                self.winners.add_slot();
            }
            self.winners.offer(
                slot,
                Rank {
                    event: events[row],
                    created: created[row],
                    part,
                },
                row as u32,
            );
        }
        self.winners.commit(&project(batch, &self.output))?;
        if self.retained_bytes() > self.budget.limit {
            self.winners.compact()?;
        }
        self.budget.check(self.retained_bytes())
    }
}
