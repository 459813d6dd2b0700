//! Frames: how records lie in the files of a journal. Pure.
//!
//! A frame is `crc32c: u32, length: u32, kind: u8, payload`, little endian; the length counts kind and payload, and the
//! checksum covers all that follows it. Invariant: [`parse`] never panics, and gives a frame only if it is the one that was
//! written, whatever bytes it is given.

/// Bytes before the payload.
pub(super) const HEAD: usize = 9;
/// Longest payload that is written, and believed when read.
pub(super) const MAX_PAYLOAD: usize = 64 << 20;

/// One frame that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) kind: u8,
    pub(super) payload: &'a [u8],
}

impl Frame<'_> {
    /// Bytes of the whole frame.
    pub(super) fn size(&self) -> usize {
        HEAD + self.payload.len()
    }
}

/// Why there is no frame here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bad {
    /// The bytes end before the frame does, or are zeros: space that is reserved for what comes.
    Incomplete,
    /// This is not what was written.
    Damaged,
}

/// Appends a frame whose payload `write` appends.
pub(super) fn append(buffer: &mut Vec<u8>, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, kind]);
    write(buffer);
    let length = (buffer.len() - start - 8) as u32;
    buffer[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    let sum = crc32c::crc32c(&buffer[start + 4..]);
    buffer[start..start + 4].copy_from_slice(&sum.to_le_bytes());
}

/// The frame that `bytes` begin with.
pub(super) fn parse(bytes: &[u8]) -> Result<Frame<'_>, Bad> {
    let Some((&[a, b, c, d, e, f, g, h], rest)) = bytes.split_first_chunk::<8>() else {
        return Err(Bad::Incomplete);
    };
    let length = u32::from_le_bytes([e, f, g, h]) as usize;
    if [a, b, c, d, e, f, g, h] == [0; 8] {
        return Err(Bad::Incomplete);
    }
    if length == 0 || length > MAX_PAYLOAD + 1 {
        return Err(Bad::Damaged);
    }
    let body = rest.get(..length).ok_or(Bad::Incomplete)?;
    if crc32c::crc32c(&bytes[4..8 + length]) != u32::from_le_bytes([a, b, c, d]) {
        return Err(Bad::Damaged);
    }
    Ok(Frame {
        kind: body[0],
        payload: &body[1..],
    })
}

/// Whether a whole frame begins anywhere behind the first byte: then what is before it is damaged, not cut off.
pub(super) fn any_behind(bytes: &[u8]) -> bool {
    (1..bytes.len().saturating_sub(HEAD)).any(|at| parse(&bytes[at..]).is_ok())
}

/// Appends an integer, short where it is small.
pub(super) fn put_varint(buffer: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buffer.push(value as u8 | 0x80);
        value >>= 7;
    }
    buffer.push(value as u8);
}

/// Appends a signed integer, short where it is near zero.
pub(super) fn put_signed(buffer: &mut Vec<u8>, value: i64) {
    put_varint(buffer, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Takes fields off the front of a payload; `None` when it does not hold what it should.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    pub(super) fn size(&mut self) -> Option<usize> {
        self.varint()?.try_into().ok()
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = self.size()?;
        std::str::from_utf8(self.bytes(length)?).ok()
    }

    pub(super) fn f64(&mut self) -> Option<f64> {
        self.array().map(f64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (at, payload) in payloads.iter().enumerate() {
            append(&mut bytes, at as u8, |buffer| buffer.extend(payload));
        }
        bytes
    }

    /// All frames from the front, up to the first place where there is none.
    fn read(mut bytes: &[u8]) -> (Vec<Vec<u8>>, Option<Bad>) {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            match parse(bytes) {
                Ok(frame) => {
                    found.push(frame.payload.to_vec());
                    bytes = &bytes[frame.size()..];
                }
                Err(bad) => return (found, Some(bad)),
            }
        }
        (found, None)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(payloads: Vec<Vec<u8>>) {
            prop_assert_eq!(read(&frames(&payloads)), (payloads, None));
        }

        #[test]
        fn a_torn_end_costs_only_the_last_frame(payloads in prop::collection::vec(any::<Vec<u8>>(), 1..8), cut in 1_usize..40) {
            let bytes = frames(&payloads);
            let cut = cut.min(bytes.len());
            let (found, bad) = read(&bytes[..bytes.len() - cut]);
            prop_assert_eq!(&found[..], &payloads[..found.len()]);
            prop_assert!(bad != Some(Bad::Damaged));
            let last = HEAD + payloads[payloads.len() - 1].len();
            prop_assert!(cut > last || found.len() + 1 == payloads.len());
        }

        #[test]
        fn a_flipped_bit_is_found(payloads in prop::collection::vec(any::<Vec<u8>>(), 1..8), at: prop::sample::Index, bit in 0_u8..8) {
            let mut bytes = frames(&payloads);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let (found, bad) = read(&bytes);
            prop_assert!(bad.is_some());
            prop_assert!(found.len() < payloads.len());
            prop_assert_eq!(&found[..], &payloads[..found.len()]);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            read(&bytes);
            any_behind(&bytes);
        }

        #[test]
        fn integers_come_back(value: u64, signed: i64) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            put_signed(&mut bytes, signed);
            let mut fields = Fields(&bytes);
            prop_assert_eq!((fields.varint(), fields.signed()), (Some(value), Some(signed)));
        }
    }

    #[test]
    fn a_frame_behind_damage_is_found() {
        let mut bytes = frames(&[b"first".to_vec(), b"second".to_vec()]);
        bytes[10] ^= 1;
        assert_eq!(parse(&bytes), Err(Bad::Damaged));
        assert!(any_behind(&bytes));
        assert!(!any_behind(&bytes[..12]));
        assert_eq!(parse(&[0; 64]), Err(Bad::Incomplete), "zeros are no frame");
        bytes.splice(10..10, [0; 4096]);
        assert!(any_behind(&bytes[10..]), "zeros may lie between");
    }
}
