//! The entity side: rows grouped by key, and in each group the sorted distinct timestamps, called slots.
//!
//! All entity rows of one key and one instant want the same answer, so an answer is kept per slot. Slots are numbered
//! over all groups: those of a group are neighbours, in the order of time. Built once, never changed. This file must
//! not know about feature values.

use std::ops::Range;

use arrow::array::{Array, ArrayRef};
use arrow::compute::{SortOptions, concat, sort_to_indices, take};

use super::columns::{EntitySide, entity_table, project};
use super::keys::{KeyEncoder, KeyForm, KeyMap};
use super::{AsOfError, Result, time};

/// The slot of an entity row that matches nothing: a null key or a null timestamp.
const NO_SLOT: u32 = u32::MAX;

/// The groups and slots of the entity rows.
#[derive(Debug)]
pub(super) struct Slots {
    groups: KeyMap,
    /// The first slot of each group, and at the end the number of slots.
    starts: Vec<u32>,
    /// The instant of each slot.
    times: Vec<i128>,
    /// The slot of each entity row.
    row_slots: Vec<u32>,
    earliest: i128,
    latest: i128,
}

/// What the entity side says about the keys that can occur: per join key its least and greatest value, each an array
/// of length 0 or 1 in the form in which keys are compared.
pub(super) struct KeyExtremes(pub(super) Vec<(ArrayRef, ArrayRef)>);

/// An entity row that can match: its group, its time, its number.
type Entry = (u32, i128, u32);

impl Slots {
    /// Groups the entity rows by keys in the given forms. `room` is asked before memory is taken, with the bytes
    /// needed so far.
    pub(super) fn build(
        side: &EntitySide<'_>,
        forms: &[KeyForm],
        room: impl Fn(usize) -> Result<()>,
    ) -> Result<(Self, KeyExtremes)> {
        let table = entity_table(side);
        let keys = table.columns(&side.keys)?;
        let timestamp = table.timestamp(&side.timestamp)?;
        let encoder = KeyEncoder::new(forms.to_vec(), side.keys.clone(), table.name.clone())?;

        let total: usize = side.batches.iter().map(|batch| batch.num_rows()).sum();
        if total >= NO_SLOT as usize {
            return Err(AsOfError::TooManyRows {
                table: table.name,
                limit: NO_SLOT as usize - 1,
            });
        }
        room(total * (size_of::<Entry>() + size_of::<u32>()))?;

        let mut groups = KeyMap::default();
        let mut entries: Vec<Entry> = Vec::with_capacity(total);
        let mut extremes = vec![Extremes::default(); keys.len()];
        let mut instants = Vec::new();
        let mut first_row = 0u32;
        for batch in side.batches {
            table.check(batch, keys.iter().copied().chain([timestamp]))?;
            let columns = encoder.convert(&project(batch, &keys))?;
            for (extreme, column) in extremes.iter_mut().zip(&columns) {
                extreme.add(column)?;
            }
            let encoded = encoder.encode_converted(&columns, batch.num_rows())?;
            instants.clear();
            time::read(batch.column(timestamp).as_ref(), &mut instants);
            for (row, &instant) in instants.iter().enumerate() {
                if instant != time::ABSENT
                    && let Some(key) = encoded.get(row)
                {
                    entries.push((groups.intern(key).0, instant, first_row + row as u32));
                }
            }
            first_row += batch.num_rows() as u32; // the sum of all is below NO_SLOT
            room(entries.capacity() * size_of::<Entry>() + groups.retained_bytes())?;
        }
        let extremes = extremes
            .into_iter()
            .map(Extremes::finish)
            .collect::<Result<_>>()?;
        Ok((
            Self::from_entries(groups, entries, total),
            KeyExtremes(extremes),
        ))
    }

    fn from_entries(groups: KeyMap, mut entries: Vec<Entry>, total: usize) -> Self {
        entries.sort_unstable();
        let mut starts = Vec::with_capacity(groups.len() + 1);
        let mut times = Vec::new();
        let mut row_slots = vec![NO_SLOT; total];
        let (mut earliest, mut latest) = (i128::MAX, i128::MIN);
        let mut previous = None;
        for (group, instant, row) in entries {
            if previous != Some((group, instant)) {
                // every group has a row, so groups come without gaps
                if starts.len() <= group as usize {
                    starts.push(times.len() as u32);
                }
                times.push(instant);
                earliest = earliest.min(instant);
                latest = latest.max(instant);
                previous = Some((group, instant));
            }
            row_slots[row as usize] = times.len() as u32 - 1;
        }
        starts.push(times.len() as u32);
        times.shrink_to_fit();
        Self {
            groups,
            starts,
            times,
            row_slots,
            earliest,
            latest,
        }
    }

    /// The group of a key, if any entity row has it.
    pub(super) fn group(&self, key: &[u8]) -> Option<u32> {
        self.groups.get(key)
    }

    /// The first slot of a group that is not before `availability`.
    pub(super) fn first_at_or_after(&self, group: u32, availability: i128) -> Option<u32> {
        let Range { start, end } = self.range(group as usize);
        let offset = self.times[start..end].partition_point(|&time| time < availability);
        (start + offset < end).then_some((start + offset) as u32)
    }

    /// The slots of each group, in the order of time.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        (0..self.groups.len()).map(|group| self.range(group))
    }

    fn range(&self, group: usize) -> Range<usize> {
        self.starts[group] as usize..self.starts[group + 1] as usize
    }

    pub(super) fn time(&self, slot: usize) -> i128 {
        self.times[slot]
    }

    /// The number of slots.
    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    /// The earliest and latest slot; `None` if no entity row can match anything.
    pub(super) fn span(&self) -> Option<(i128, i128)> {
        (!self.times.is_empty()).then_some((self.earliest, self.latest))
    }

    /// The slot of each entity row, in entity row order.
    pub(super) fn into_row_slots(self) -> Vec<Option<u32>> {
        self.row_slots
            .into_iter()
            .map(|slot| (slot != NO_SLOT).then_some(slot))
            .collect()
    }

    pub(super) fn retained_bytes(&self) -> usize {
        self.groups.retained_bytes()
            + self.starts.capacity() * size_of::<u32>()
            + self.times.capacity() * size_of::<i128>()
            + self.row_slots.capacity() * size_of::<u32>()
    }
}

/// The least and greatest values of one column, gathered over batches.
#[derive(Debug, Clone, Default)]
struct Extremes {
    least: Vec<ArrayRef>,
    greatest: Vec<ArrayRef>,
}

impl Extremes {
    fn add(&mut self, column: &ArrayRef) -> Result<()> {
        self.least.push(first(column, false)?);
        self.greatest.push(first(column, true)?);
        Ok(())
    }

    fn finish(self) -> Result<(ArrayRef, ArrayRef)> {
        let one = |parts: Vec<ArrayRef>, descending| -> Result<ArrayRef> {
            let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
            if parts.is_empty() {
                return Ok(arrow::array::new_empty_array(
                    &arrow::datatypes::DataType::Null,
                ));
            }
            first(&concat(&parts)?, descending)
        };
        Ok((one(self.least, false)?, one(self.greatest, true)?))
    }
}

/// The first non-null value in sorted order, as an array of length 0 or 1.
fn first(column: &ArrayRef, descending: bool) -> Result<ArrayRef> {
    let options = SortOptions {
        descending,
        nulls_first: false,
    };
    let index = sort_to_indices(column, Some(options), Some(1))?;
    let value = take(column, &index, None)?;
    Ok(if value.null_count() == value.len() {
        value.slice(0, 0)
    } else {
        value
    })
}
