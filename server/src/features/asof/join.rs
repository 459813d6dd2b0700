//! [`AsOf`]: the point-in-time join of one feature view with the entity rows.
//!
//! Feature rows may be pushed in any time order, but rows that tie on both timestamps are told apart by their part
//! and arrival, so those must be right. This file must not know where feature rows come from.

use std::time::Duration;

use arrow::array::RecordBatch;

use super::budget::Budget;
use super::columns::{FeatureColumns, entity_table, project};
use super::keys::{KeyEncoder, KeyForm};
use super::matches::Matches;
use super::pruning::{self, Pruning};
use super::slots::Slots;
use super::winners::{Rank, RowRef, Winner, Winners};
use super::{AsOfError, EntitySide, FeatureSide, Result, time};

/// How the join decides.
#[derive(Debug, Clone)]
pub struct AsOfOptions {
    /// How old a feature row may be at the entity's time, inclusive; `None` is unbounded. Has no meaning for a static
    /// view, whose rows are always valid.
    pub ttl: Option<Duration>,
    /// Whether a row must also have been written by the entity's time (`known_at="entity"`). A static view that does
    /// not record when its rows were written claims nothing about time, and stays always valid.
    pub known_at_entity: bool,
    /// Bytes that the join may hold. The batches given by the caller and the result are not counted.
    pub memory_limit: usize,
}

/// The point-in-time join of one feature view with the entity rows. See the module for the rules.
#[derive(Debug)]
pub struct AsOf {
    features: FeatureColumns,
    encoder: KeyEncoder,
    slots: Slots,
    winners: Winners,
    ttl: Option<i128>,
    /// Whether availability includes the created timestamp.
    known_at: bool,
    budget: Budget,
    pruning: Pruning,
    failed: bool,
}

impl AsOf {
    /// Takes in the entity rows.
    ///
    /// # Errors
    /// Columns that are missing, are of unusable types or do not compare; `known_at_entity` for a view with event but
    /// without created timestamps; entity rows beyond the memory limit.
    pub fn new(
        entities: &EntitySide<'_>,
        features: &FeatureSide,
        options: &AsOfOptions,
    ) -> Result<Self> {
        let columns = FeatureColumns::resolve(features)?;
        if options.known_at_entity && columns.event.is_some() && columns.created.is_none() {
            return Err(AsOfError::KnownAtWithoutCreated { view: columns.view });
        }
        let forms = key_forms(entities, &columns, features)?;
        let budget = Budget {
            view: columns.view.clone(),
            limit: options.memory_limit,
        };
        let (slots, extremes) = Slots::build(entities, &forms, |needed| budget.check(needed))?;
        let ttl = options
            .ttl
            .filter(|_| columns.event.is_some())
            .map(|ttl| ttl.as_nanos() as i128); // below 2^94
        let known_at = options.known_at_entity && columns.created.is_some();
        let pruning = pruning::of(&columns, &slots, &extremes, ttl, known_at)?;
        let join = Self {
            encoder: KeyEncoder::new(forms, features.keys.clone(), columns.table.name.clone())?,
            winners: Winners::with_slots(slots.len()),
            features: columns,
            slots,
            ttl,
            known_at,
            budget,
            pruning,
            failed: false,
        };
        join.budget.check(join.retained_bytes())?;
        Ok(join)
    }

    /// What a scan of the feature side may leave out without changing the answer.
    pub fn pruning(&self) -> &Pruning {
        &self.pruning
    }

    /// Bytes held: the entity side and the winners' values.
    pub fn retained_bytes(&self) -> usize {
        self.slots.retained_bytes() + self.winners.retained_bytes()
    }

    /// Takes in feature rows that were written after all rows pushed before.
    ///
    /// # Errors
    /// A batch that does not have the declared schema; the memory limit; after an error every further call fails.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        self.push_part(0, batch)
    }

    /// Takes in feature rows of one part of the source, for scans that read several files at once. Among rows that tie
    /// on both timestamps the greater part wins, and within a part the row that was pushed last.
    ///
    /// # Errors
    /// As [`AsOf::push`].
    pub fn push_part(&mut self, part: u32, batch: &RecordBatch) -> Result<()> {
        self.usable()?;
        let outcome = self.accept(part, batch);
        self.failed = outcome.is_err();
        outcome
    }

    /// Decides, and returns for every entity row the features that it had.
    ///
    /// # Errors
    /// If a push had failed.
    pub fn finish(mut self) -> Result<Matches> {
        self.usable()?;
        self.winners.compact()?;
        let by_slot = self.decide();
        let row_slots = self.slots.into_row_slots();
        let rows = row_slots
            .into_iter()
            .map(|slot| slot.and_then(|slot| by_slot[slot as usize]))
            .collect();
        let chunks = self
            .winners
            .into_chunks()
            .into_iter()
            .map(|(columns, _)| columns)
            .collect();
        Ok(Matches::new(&self.features, chunks, rows))
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
        if u32::try_from(rows).is_err() {
            return Err(AsOfError::TooManyRows {
                table: "a batch of feature rows".to_owned(),
                limit: u32::MAX as usize,
            });
        }
        let (events, created) = self.features.instants(batch);
        let availability: Vec<i128> = events
            .iter()
            .zip(&created)
            .map(|(&e, &c)| self.availability(e, c))
            .collect();
        if availability.iter().all(|&at| at == time::ABSENT) {
            return Ok(()); // spares encoding the keys of a batch that lies outside the time span
        }
        let keys = self
            .encoder
            .encode(&project(batch, &self.features.keys), rows)?;
        let mut previous: Option<(&[u8], Option<u32>)> = None;
        for row in 0..rows {
            if availability[row] == time::ABSENT {
                continue;
            }
            let Some(key) = keys.get(row) else { continue };
            let group = match previous {
                Some((same, group)) if same == key => group, // files are often sorted by key
                _ => self.slots.group(key),
            };
            previous = Some((key, group));
            let Some(slot) =
                group.and_then(|group| self.slots.first_at_or_after(group, availability[row]))
            else {
                continue;
            };
            let event = events[row];
            // too old here is too old for every later slot
            if self
                .ttl
                .is_none_or(|ttl| event >= self.slots.time(slot as usize) - ttl)
            {
                self.winners.offer(
                    slot,
                    Rank {
                        event,
                        created: created[row],
                        part,
                    },
                    row as u32,
                );
            }
        }
        self.winners
            .commit(&project(batch, &self.features.features))?;
        if self.retained_bytes() > self.budget.limit {
            self.winners.compact()?;
        }
        self.budget.check(self.retained_bytes())
    }

    /// From when on a row can be a candidate; [`time::ABSENT`] if it never is.
    fn availability(&self, event: i128, created: i128) -> i128 {
        let Some((earliest, latest)) = self.slots.span() else {
            return time::ABSENT;
        };
        if event == time::ABSENT || (self.known_at && created == time::ABSENT) {
            return time::ABSENT;
        }
        if self.ttl.is_some_and(|ttl| event < earliest - ttl) {
            return time::ABSENT;
        }
        let at = if self.known_at {
            event.max(created)
        } else {
            event
        };
        if at > latest { time::ABSENT } else { at }
    }

    /// The winner of each slot among everything available by then.
    fn decide(&self) -> Vec<Option<RowRef>> {
        let mut decided = vec![None; self.slots.len()];
        for range in self.slots.ranges() {
            let mut best: Option<Winner> = None;
            for slot in range {
                if let Some(winner) = self.winners.winner(slot)
                    && best.is_none_or(|best| winner.rank() >= best.rank())
                {
                    best = Some(winner);
                }
                // if the candidate with the greatest event timestamp is too old, so are all the others
                let oldest = self.ttl.map(|ttl| self.slots.time(slot) - ttl);
                decided[slot] = best
                    .filter(|best| oldest.is_none_or(|oldest| best.rank().event >= oldest))
                    .map(|best| best.at());
            }
        }
        decided
    }
}

/// The form in which each join key is compared.
fn key_forms(
    entities: &EntitySide<'_>,
    columns: &FeatureColumns,
    features: &FeatureSide,
) -> Result<Vec<KeyForm>> {
    if entities.keys.len() != features.keys.len() {
        return Err(AsOfError::KeyCount {
            view: columns.view.clone(),
            expected: features.keys.len(),
            given: entities.keys.len(),
        });
    }
    let table = entity_table(entities);
    let mut forms = Vec::with_capacity(columns.keys.len());
    for ((name, feature_name), &index) in
        entities.keys.iter().zip(&features.keys).zip(&columns.keys)
    {
        let entity_type = table.data_type(table.column(name)?);
        let feature_type = columns.table.data_type(index);
        forms.push(
            KeyForm::of(entity_type, feature_type).ok_or_else(|| AsOfError::KeyTypes {
                view: columns.view.clone(),
                entity_column: name.clone(),
                entity_type: entity_type.clone(),
                feature_column: feature_name.clone(),
                feature_type: feature_type.clone(),
            })?,
        );
    }
    Ok(forms)
}
