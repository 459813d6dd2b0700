//! One stored row: when it was, when it was written, and the values of its features.
//!
//! Invariant: the bytes begin with the number of their format and say which origin and layout they have, so that no version of
//! a view misreads the rows of another.

use arrow::array::{ArrayRef, RecordBatch};
use mlplat_proto::features::v1::EntityRow;
use prost::Message as _;

use super::{KeyEncoder, value};
use crate::{
    error::{Error, Result},
    features::{asof::FeatureSide, instant},
};

const FORMAT: u8 = 1;
const HAS_EVENT: u8 = 1;
const HAS_CREATED: u8 = 2;

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::features) struct Row {
    /// Event time; `None` for a static row, which is older than every other.
    pub(in crate::features) event: Option<i128>,
    /// When it was written, where that is recorded.
    pub(in crate::features) created: Option<i128>,
    /// Where it comes from.
    pub(in crate::features) origin: u64,
    /// Which features it has.
    pub(in crate::features) layout: u64,
    /// An encoded `EntityRow` with a value per feature.
    pub(in crate::features) values: Vec<u8>,
}

impl Row {
    /// Whether this row takes the place of another of the same key.
    pub(super) fn replaces(&self, stored: &Self) -> bool {
        self.origin != stored.origin || (self.event, self.created) >= (stored.event, stored.created)
    }

    /// The row as bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(50 + self.values.len());
        let mut flags = 0;
        if self.event.is_some() {
            flags |= HAS_EVENT;
        }
        if self.created.is_some() {
            flags |= HAS_CREATED;
        }
        bytes.extend([FORMAT, flags]);
        bytes.extend(self.origin.to_be_bytes());
        bytes.extend(self.layout.to_be_bytes());
        for at in [self.event, self.created].into_iter().flatten() {
            bytes.extend(at.to_be_bytes());
        }
        bytes.extend(&self.values);
        bytes
    }

    /// The row from its bytes.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let broken = || Error::internal(anyhow::anyhow!("an online row is not of a known format"));
        let (head, mut rest) = bytes.split_at_checked(18).ok_or_else(broken)?;
        if head[0] != FORMAT {
            return Err(broken());
        }
        let number = |bytes: &[u8]| {
            let bytes = bytes.try_into().map_err(|_| broken())?;
            Ok::<u64, Error>(u64::from_be_bytes(bytes))
        };
        let mut instant = |flag: u8| {
            if head[1] & flag == 0 {
                return Ok(None);
            }
            let (at, others) = rest.split_at_checked(16).ok_or_else(broken)?;
            rest = others;
            let at = at.try_into().map_err(|_| broken())?;
            Ok::<_, Error>(Some(i128::from_be_bytes(at)))
        };
        let (event, created) = (instant(HAS_EVENT)?, instant(HAS_CREATED)?);
        Ok(Self {
            event,
            created,
            origin: number(&head[2..10])?,
            layout: number(&head[10..18])?,
            values: rest.to_vec(),
        })
    }
}

/// The rows of a batch with their keys; rows whose key has a null are left out.
pub(in crate::features) fn encode_rows(
    encoder: &KeyEncoder,
    side: &FeatureSide,
    (origin, layout): (u64, u64),
    batch: &RecordBatch,
) -> Result<Vec<(Vec<u8>, Row)>> {
    let column = |name: &String| -> Result<ArrayRef> {
        batch.column_by_name(name).cloned().ok_or_else(|| {
            Error::internal(anyhow::anyhow!("a materialized batch has no column {name}"))
        })
    };
    let times = |name: &Option<String>| -> Result<Vec<Option<i128>>> {
        match name {
            Some(name) => Ok(instant::of_array(&column(name)?)),
            None => Ok(vec![None; batch.num_rows()]),
        }
    };
    let keys: Vec<ArrayRef> = side.keys.iter().map(column).collect::<Result<_>>()?;
    let keys = encoder.encode(&keys, batch.num_rows())?;
    let (events, created) = (
        times(&side.event_timestamp)?,
        times(&side.created_timestamp)?,
    );
    let mut features = Vec::with_capacity(side.features.len());
    for name in &side.features {
        let values = value::of_array(&column(name)?).map_err(Error::internal)?;
        features.push(values.into_iter());
    }
    let mut rows = Vec::with_capacity(batch.num_rows());
    for (at, key) in keys.into_iter().enumerate() {
        let values = features.iter_mut().filter_map(Iterator::next).collect();
        let Some(key) = key else { continue };
        let row = Row {
            event: events[at],
            created: created[at],
            origin,
            layout,
            values: EntityRow { values }.encode_to_vec(),
        };
        rows.push((key, row));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(event: Option<i128>, created: Option<i128>) -> Row {
        Row {
            event,
            created,
            origin: 7,
            layout: u64::MAX,
            values: vec![1, 2, 3],
        }
    }

    #[test]
    fn rows_survive_and_broken_ones_are_noticed() {
        for row in [
            row(Some(-5), Some(i128::MAX)),
            row(Some(1), None),
            row(None, None),
        ] {
            assert_eq!(Row::decode(&row.encode()).unwrap(), row);
        }
        for broken in [&[][..], &[1; 5], &[9; 40], &[1, 3, 0, 0]] {
            assert!(Row::decode(broken).is_err());
        }
    }

    #[test]
    fn newer_replaces_older_and_later_replaces_equal() {
        let stored = row(Some(5), Some(2));
        assert!(row(Some(6), None).replaces(&stored));
        assert!(row(Some(5), Some(2)).replaces(&stored));
        assert!(!row(Some(5), None).replaces(&stored), "null is the lowest");
        assert!(!row(Some(4), Some(9)).replaces(&stored));
        let elsewhere = Row {
            origin: 8,
            ..row(Some(1), None)
        };
        assert!(
            elsewhere.replaces(&stored),
            "rows of an old origin do not count"
        );
    }
}
