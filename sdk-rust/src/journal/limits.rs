//! How much a journal may use, as the environment says.

use super::notice;

/// How much a journal may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Size at which a new segment begins.
    pub(super) segment_bytes: u64,
    /// Most bytes on disk.
    pub(super) quota_bytes: u64,
    /// Most bytes that wait in memory when the disk takes none.
    pub(super) memory_bytes: usize,
    /// Whether every record is forced to the disk.
    pub(super) fsync: bool,
}

impl Limits {
    /// Those of the environment.
    pub(super) fn from_env() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let quota_bytes = variable("MLPLAT_JOURNAL_QUOTA").map_or(10 << 30, |text| {
            parse_bytes(&text).unwrap_or_else(|| {
                notice::warn(&format!(
                    "MLPLAT_JOURNAL_QUOTA is {text:?}; give bytes, or a number with K, M, G or T. It is 10G now"
                ));
                10 << 30
            })
        });
        Self {
            // What is delivered goes with its segment, so it should not be a large one.
            segment_bytes: (16 << 20).min(quota_bytes / 4),
            quota_bytes,
            memory_bytes: 16 << 20,
            fsync: variable("MLPLAT_JOURNAL_FSYNC").is_some_and(|value| value != "0"),
        }
    }

    /// Whether space may be reserved ahead, to write it through memory: not where there is little of it, and for nothing
    /// where each record is forced to the disk.
    pub(super) fn reserves_space(&self) -> bool {
        !self.fsync && self.segment_bytes >= 1 << 20
    }
}

/// A size such as `1000000`, `64M` or `10 GiB`.
fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit
        .trim()
        .to_ascii_uppercase()
        .trim_end_matches("IB")
        .trim_end_matches('B')
    {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(parse_bytes("1000"), Some(1000));
        assert_eq!(parse_bytes("64M"), Some(64 << 20));
        assert_eq!(parse_bytes(" 10 GiB"), Some(10 << 30));
        assert_eq!(parse_bytes("2kb"), Some(2048));
        for bad in ["", "x", "-1", "1.5G", "99999999999T"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
    }
}
