//! Metric points as bytes: one compressed column each for steps, timestamps and values.
//!
//! Invariant: what is decoded is what was encoded, bit for bit (NaN payloads, infinities, -0.0), or an error; damaged bytes
//! never become points. Pure: it knows neither database nor contract.
//!
//! Layout, little endian: magic `MC`, version, zero; number of points (u32); for each of the three columns its encoding (u8)
//! and length in bytes (u32); the columns; the first 8 bytes of the SHA-256 of all that.

use pco::{ChunkConfig, standalone};
use sha2::{Digest as _, Sha256};

use super::points::Points;

/// Most points in one chunk.
pub(crate) const MAX_POINTS: usize = 65_536;

const MAGIC: [u8; 2] = *b"MC";
const VERSION: u8 = 1;
const COLUMNS: usize = 3;
const HEADER: usize = 8 + COLUMNS * 5;
const CHECKSUM: usize = 8;
const WORD: usize = 8;

/// How the bytes of a column are meant.
const RAW: u8 = 0;
const PCO: u8 = 1;

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

/// Encodes at most [`MAX_POINTS`] points.
pub(crate) fn encode(points: &Points) -> Vec<u8> {
    debug_assert!(points.len() <= MAX_POINTS, "the caller splits");
    let columns = [
        encode_column(&points.steps, |value| value.to_le_bytes()),
        encode_column(&points.timestamps_us, |value| value.to_le_bytes()),
        encode_column(&points.values, |value| value.to_bits().to_le_bytes()),
    ];
    let payload: usize = columns.iter().map(|(_, bytes)| bytes.len()).sum();
    let mut chunk = Vec::with_capacity(HEADER + payload + CHECKSUM);
    chunk.extend(MAGIC);
    chunk.extend([VERSION, 0]);
    chunk.extend(
        u32::try_from(points.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    for (encoding, bytes) in &columns {
        chunk.push(*encoding);
        chunk.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    }
    for (_, bytes) in &columns {
        chunk.extend(bytes);
    }
    let checksum = Sha256::digest(&chunk);
    chunk.extend(&checksum[..CHECKSUM]);
    chunk
}

/// Decodes a chunk.
pub(crate) fn decode(chunk: &[u8]) -> Result<Points, Corrupt> {
    if chunk.len() < HEADER + CHECKSUM || chunk[..2] != MAGIC {
        return Err(Corrupt::NotAChunk(chunk.len()));
    }
    if chunk[2] != VERSION {
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
    Ok(Points {
        steps: decode_column(columns[0], count, i64::from_le_bytes)?,
        timestamps_us: decode_column(columns[1], count, i64::from_le_bytes)?,
        values: decode_column(columns[2], count, |bytes| {
            f64::from_bits(u64::from_le_bytes(bytes))
        })?,
    })
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

/// Compressed, unless that makes it larger (few points, noise).
fn encode_column<T: pco::data_types::Number>(
    values: &[T],
    bytes: impl Fn(T) -> [u8; WORD],
) -> (u8, Vec<u8>) {
    match standalone::simple_compress(values, &ChunkConfig::default()) {
        Ok(compressed) if compressed.len() < values.len() * WORD => (PCO, compressed),
        _ => (RAW, values.iter().flat_map(|value| bytes(*value)).collect()),
    }
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
        fn bit_for_bit(of in prop::collection::vec((any::<i64>(), any::<i64>(), special()), 0..700)) {
            let points = points(of);
            let decoded = decode(&encode(&points));
            prop_assert_eq!(decoded.map(|decoded| bits(&decoded)), Ok(bits(&points)));
        }

        #[test]
        fn bit_for_bit_when_regular(count in 0usize..5000, factor in special(), start in any::<i32>()) {
            let of = (0i64..).take(count).map(|i| (i64::from(start) + i, 1_700_000_000_000_000 + i * 1_000_003, i as f64 * factor));
            let points = points(of);
            let decoded = decode(&encode(&points));
            prop_assert_eq!(decoded.map(|decoded| bits(&decoded)), Ok(bits(&points)));
        }

        #[test]
        fn damage_is_noticed(at in any::<prop::sample::Index>(), flip in 1u8..) {
            let mut chunk = encode(&points((0..50).map(|i| (i, i * 7, i as f64 / 3.0))));
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
        let chunk = encode(&points((0..100).map(|i| (i, i, 0.5))));
        for length in 0..chunk.len() {
            assert!(decode(&chunk[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_full_chunk_of_a_learning_curve_is_small() {
        let curve = (0..65_536i64).map(|i| {
            (
                i,
                1_700_000_000_000_000 + i * 1000,
                (0.1 / (1.0 + i as f64)).sqrt(),
            )
        });
        let points = points(curve);
        let chunk = encode(&points);
        assert_eq!(
            decode(&chunk).map(|decoded| bits(&decoded)),
            Ok(bits(&points))
        );
        assert!(
            chunk.len() < 65_536 * 9,
            "{} bytes for 24 bytes a point",
            chunk.len()
        );
    }

    #[test]
    fn versions_are_told_apart() {
        let mut chunk = encode(&Points::default());
        chunk[2] = 9;
        assert_eq!(decode(&chunk).map(|_| ()), Err(Corrupt::Version(9)));
    }
}
