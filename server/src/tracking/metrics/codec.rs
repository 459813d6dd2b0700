//! Metric points as bytes: one compressed column each for steps, timestamps and values.
//!
//! Invariant: what is decoded is what was encoded, bit for bit (NaN payloads, infinities, -0.0), or an error; damaged bytes
//! never become points. Pure: it knows neither database nor contract.
//!
//! Layout, little endian: magic `MC`, version, zero; number of points (u32); for each of the three columns its encoding (u8)
//! and length in bytes (u32); the columns; the first 8 bytes of the SHA-256 of all that. Version 2 may hold sequences, which
//! version 1 did not know.

use pco::{ChunkConfig, standalone};
use sha2::{Digest as _, Sha256};

use super::points::Points;

/// Most points in one chunk.
pub(crate) const MAX_POINTS: usize = 65_536;
/// So few points are stored as they are: compressing them takes longer than it is worth.
const RAW_POINTS: usize = 256;

const MAGIC: [u8; 2] = *b"MC";
const VERSION: u8 = 2;
const COLUMNS: usize = 3;
const HEADER: usize = 8 + COLUMNS * 5;
const CHECKSUM: usize = 8;
const WORD: usize = 8;

/// How the bytes of a column are meant: words as they are, compressed by pco, or the first value and the difference from each
/// to the next.
const RAW: u8 = 0;
const PCO: u8 = 1;
const SEQUENCE: u8 = 2;

/// How much work an encoding is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Somebody waits for it.
    Fast,
    /// It is to stay as it is: four times the work for a tenth less.
    Small,
}

/// Why bytes are not a chunk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Corrupt {
    /// Something was cut off, or never was a chunk.
    #[error("metric chunk: {0} bytes are too few, or the first are not those of a chunk")]
    NotAChunk(usize),
    /// Written by a newer server.
    #[error("metric chunk: version {0} is not known to this server")]
    Version(u8),
    /// The bytes changed since they were written.
    #[error("metric chunk: the checksum does not fit")]
    Checksum,
    /// The checksum fits, and yet the content makes no sense.
    #[error("metric chunk: {0}")]
    Content(String),
}

/// One column, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    encoding: u8,
    bytes: Vec<u8>,
}

impl Column {
    /// Steps or timestamps.
    pub(crate) fn integers(values: &[i64], effort: Effort) -> Self {
        if let Some(difference) = difference(values) {
            return Self::sequence(values[0], difference);
        }
        compressed(values, effort, |value| value.to_le_bytes())
    }

    /// The integers from `first` on, each greater than the one before by `difference`. None of them may overflow.
    pub(crate) fn sequence(first: i64, difference: i64) -> Self {
        let mut bytes = Vec::with_capacity(2 * WORD);
        bytes.extend(first.to_le_bytes());
        bytes.extend(difference.to_le_bytes());
        Self {
            encoding: SEQUENCE,
            bytes,
        }
    }

    /// Values.
    pub(crate) fn floats(values: &[f64], effort: Effort) -> Self {
        compressed(values, effort, |value| value.to_bits().to_le_bytes())
    }
}

/// The difference from each value to the next, where it is the same for all of several.
fn difference(values: &[i64]) -> Option<i64> {
    let [first, second, rest @ ..] = values else {
        return None;
    };
    let difference = second.checked_sub(*first)?;
    let mut last = *second;
    for value in rest {
        if last.checked_add(difference) != Some(*value) {
            return None;
        }
        last = *value;
    }
    Some(difference)
}

/// Compressed, unless that makes it larger (few points, noise).
fn compressed<T: pco::data_types::Number>(
    values: &[T],
    effort: Effort,
    bytes: impl Fn(T) -> [u8; WORD],
) -> Column {
    let level = match effort {
        Effort::Fast => 0,
        Effort::Small => 8,
    };
    let config = ChunkConfig::default().with_compression_level(level);
    let few = effort == Effort::Fast && values.len() <= RAW_POINTS;
    if !few
        && let Ok(compressed) = standalone::simple_compress(values, &config)
        && compressed.len() < values.len() * WORD
    {
        return Column {
            encoding: PCO,
            bytes: compressed,
        };
    }
    let mut raw = Vec::with_capacity(values.len() * WORD);
    for value in values {
        raw.extend(bytes(*value));
    }
    Column {
        encoding: RAW,
        bytes: raw,
    }
}

/// Encodes at most [`MAX_POINTS`] points.
pub(crate) fn encode(points: &Points, effort: Effort) -> Vec<u8> {
    debug_assert!(points.len() <= MAX_POINTS, "the caller splits");
    let steps = Column::integers(&points.steps, effort);
    let timestamps_us = Column::integers(&points.timestamps_us, effort);
    let values = Column::floats(&points.values, effort);
    assemble(points.len(), [&steps, &timestamps_us, &values])
}

/// A chunk of its columns: steps, timestamps, values.
pub(crate) fn assemble(count: usize, columns: [&Column; COLUMNS]) -> Vec<u8> {
    let payload: usize = columns.iter().map(|column| column.bytes.len()).sum();
    let mut chunk = Vec::with_capacity(HEADER + payload + CHECKSUM);
    chunk.extend(MAGIC);
    chunk.extend([VERSION, 0]);
    chunk.extend(u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
    for column in columns {
        chunk.push(column.encoding);
        let length = u32::try_from(column.bytes.len()).unwrap_or(u32::MAX);
        chunk.extend(length.to_le_bytes());
    }
    for column in columns {
        chunk.extend(&column.bytes);
    }
    let checksum = Sha256::digest(&chunk);
    chunk.extend(&checksum[..CHECKSUM]);
    chunk
}

/// Decodes a chunk.
pub(crate) fn decode(chunk: &[u8]) -> Result<Points, Corrupt> {
    let chunk = Chunk::open(chunk)?;
    Ok(Points {
        steps: chunk.steps()?,
        timestamps_us: chunk.timestamps_us()?,
        values: chunk.values()?,
    })
}

/// A chunk whose bytes are whole; its columns are decoded when they are asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunk<'a> {
    count: usize,
    columns: [(u8, &'a [u8]); COLUMNS],
}

impl<'a> Chunk<'a> {
    /// Checks the bytes.
    pub(crate) fn open(chunk: &'a [u8]) -> Result<Self, Corrupt> {
        if chunk.len() < HEADER + CHECKSUM || chunk[..2] != MAGIC {
            return Err(Corrupt::NotAChunk(chunk.len()));
        }
        if !(1..=VERSION).contains(&chunk[2]) {
            return Err(Corrupt::Version(chunk[2]));
        }
        let (content, checksum) = chunk.split_at(chunk.len() - CHECKSUM);
        if Sha256::digest(content)[..CHECKSUM] != *checksum {
            return Err(Corrupt::Checksum);
        }
        let count = word(content, 4);
        if count > MAX_POINTS {
            return Err(Corrupt::Content(format!(
                "{count} points are more than a chunk holds"
            )));
        }
        let mut rest = &content[HEADER..];
        let mut columns = [(RAW, &rest[..0]); COLUMNS];
        for (index, column) in columns.iter_mut().enumerate() {
            let at = 8 + index * 5;
            let length = word(content, at + 1);
            let (bytes, after) = rest
                .split_at_checked(length)
                .ok_or_else(|| Corrupt::Content("a column is cut off".to_owned()))?;
            *column = (content[at], bytes);
            rest = after;
        }
        Ok(Self { count, columns })
    }

    /// The steps.
    pub(crate) fn steps(&self) -> Result<Vec<i64>, Corrupt> {
        self.integers(0)
    }

    /// The timestamps.
    pub(crate) fn timestamps_us(&self) -> Result<Vec<i64>, Corrupt> {
        self.integers(1)
    }

    /// The values.
    pub(crate) fn values(&self) -> Result<Vec<f64>, Corrupt> {
        decode_column(self.columns[2], self.count, |bytes| {
            f64::from_bits(u64::from_le_bytes(bytes))
        })
    }

    fn integers(&self, column: usize) -> Result<Vec<i64>, Corrupt> {
        let (encoding, bytes) = self.columns[column];
        if encoding != SEQUENCE {
            return decode_column((encoding, bytes), self.count, i64::from_le_bytes);
        }
        let ([first, difference], []) = bytes.as_chunks::<WORD>() else {
            return Err(Corrupt::Content("a sequence is cut off".to_owned()));
        };
        let (first, difference) = (i64::from_le_bytes(*first), i64::from_le_bytes(*difference));
        let mut values = Vec::with_capacity(self.count);
        let mut next = Some(first);
        for _ in 0..self.count {
            let value =
                next.ok_or_else(|| Corrupt::Content("a sequence leads too far".to_owned()))?;
            values.push(value);
            next = value.checked_add(difference);
        }
        Ok(values)
    }
}

fn word(content: &[u8], at: usize) -> usize {
    let bytes = [
        content[at],
        content[at + 1],
        content[at + 2],
        content[at + 3],
    ];
    usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX)
}

fn decode_column<T: pco::data_types::Number>(
    (encoding, bytes): (u8, &[u8]),
    count: usize,
    value: impl Fn([u8; WORD]) -> T,
) -> Result<Vec<T>, Corrupt> {
    let values = match encoding {
        RAW => bytes
            .as_chunks::<WORD>()
            .0
            .iter()
            .map(|word| value(*word))
            .collect(),
        PCO => standalone::simple_decompress(bytes)
            .map_err(|error| Corrupt::Content(error.to_string()))?,
        other => return Err(Corrupt::Content(format!("encoding {other} is not known"))),
    };
    if values.len() != count {
        return Err(Corrupt::Content(format!(
            "a column has {} values instead of {count}",
            values.len()
        )));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bits(points: &Points) -> Vec<(i64, i64, u64)> {
        points
            .iter()
            .map(|(step, at, value)| (step, at, value.to_bits()))
            .collect()
    }

    fn points(of: impl IntoIterator<Item = (i64, i64, f64)>) -> Points {
        let mut points = Points::default();
        for (step, at, value) in of {
            points.push(step, at, value);
        }
        points
    }

    fn effort() -> impl Strategy<Value = Effort> {
        prop::sample::select(vec![Effort::Fast, Effort::Small])
    }

    fn special() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            (-1e6..1e6),
            (0i64..1000).prop_map(|n| n as f64 / 100.0),
            prop::sample::select(vec![
                0.0,
                -0.0,
                f64::INFINITY,
                f64::NEG_INFINITY,
                f64::NAN,
                f64::from_bits(0x7ff8_0000_dead_beef),
                f64::from_bits(0xfff0_0000_0000_0001),
                f64::MIN_POSITIVE,
                f64::from_bits(1),
                f64::MAX,
                f64::MIN,
            ]),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn bit_for_bit(effort in effort(), of in prop::collection::vec((any::<i64>(), any::<i64>(), special()), 0..700)) {
            let points = points(of);
            let decoded = decode(&encode(&points, effort));
            prop_assert_eq!(decoded.map(|decoded| bits(&decoded)), Ok(bits(&points)));
        }

        #[test]
        fn bit_for_bit_when_regular(effort in effort(), count in 0usize..5000, factor in special(), start in any::<i32>()) {
            let of = (0i64..).take(count).map(|i| (i64::from(start) + i, 1_700_000_000_000_000 + i * 1_000_003, i as f64 * factor));
            let points = points(of);
            let decoded = decode(&encode(&points, effort));
            prop_assert_eq!(decoded.map(|decoded| bits(&decoded)), Ok(bits(&points)));
        }

        #[test]
        fn damage_is_noticed(at in any::<prop::sample::Index>(), flip in 1u8..) {
            let mut chunk = encode(&points((0..50).map(|i| (i, i * 7, i as f64 / 3.0))), Effort::Small);
            let at = at.index(chunk.len());
            chunk[at] ^= flip;
            prop_assert!(decode(&chunk).is_err());
        }

        #[test]
        fn garbage_is_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode(&bytes).is_err());
        }
    }

    #[test]
    fn cut_off_bytes_are_an_error() {
        let chunk = encode(&points((0..100).map(|i| (i, i, 0.5))), Effort::Fast);
        for length in 0..chunk.len() {
            assert!(decode(&chunk[..length]).is_err(), "{length} bytes");
        }
    }

    /// Float32 values with noise, about fifty points a second, in whole milliseconds.
    fn learning_curve(count: i64) -> Points {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut noise = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f64 / f64::from(1 << 24) - 0.5
        };
        let mut at_ms = 1_700_000_000_000;
        points((0..count).map(|step| {
            at_ms += 20 + (noise() * 6.0) as i64;
            let loss = 2.0 / (1.0 + step as f64 / 5000.0) * (1.0 + 0.2 * noise());
            (step, at_ms * 1000, f64::from(loss as f32))
        }))
    }

    #[test]
    fn a_learning_curve_takes_less_than_six_bytes_a_point() {
        let points = learning_curve(65_536);
        for (effort, most) in [(Effort::Fast, 4.0), (Effort::Small, 3.6)] {
            let chunk = encode(&points, effort);
            assert_eq!(
                decode(&chunk).map(|decoded| bits(&decoded)),
                Ok(bits(&points))
            );
            let each = chunk.len() as f64 / 65_536.0;
            assert!(each < most, "{effort:?}: {each} bytes a point");
        }
    }

    #[test]
    fn sequences_take_no_room() {
        let points = points((0..1000).map(|i| (i64::MIN + i, i64::MAX - i * 1000, 0.0)));
        let chunk = encode(&points, Effort::Fast);
        assert!(chunk.len() < 200, "{} bytes", chunk.len());
        assert_eq!(
            decode(&chunk).map(|decoded| bits(&decoded)),
            Ok(bits(&points))
        );
        let far = Column::sequence(i64::MAX - 1, 1);
        let values = Column::floats(&[0.0; 3], Effort::Fast);
        let broken = assemble(3, [&far, &far, &values]);
        assert!(matches!(decode(&broken), Err(Corrupt::Content(_))));
    }

    /// Chunks of version 1 are in databases.
    #[test]
    fn version_1_is_still_read() {
        let points = points((0..1000).map(|i| (i * i, i * 7 + i % 3, i as f64 / 3.0)));
        let mut chunk = encode(&points, Effort::Small);
        assert!(chunk[8] != SEQUENCE && chunk[13] != SEQUENCE);
        chunk[2] = 1;
        let content = chunk.len() - CHECKSUM;
        let checksum = Sha256::digest(&chunk[..content]);
        chunk[content..].copy_from_slice(&checksum[..CHECKSUM]);
        assert_eq!(
            decode(&chunk).map(|decoded| bits(&decoded)),
            Ok(bits(&points))
        );
    }

    #[test]
    fn versions_are_told_apart() {
        let mut chunk = encode(&Points::default(), Effort::Fast);
        chunk[2] = 9;
        assert_eq!(decode(&chunk).map(|_| ()), Err(Corrupt::Version(9)));
    }
}
