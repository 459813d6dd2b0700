//! Paths inside a run, by the rule of the contract. Pure.

use mlplat_proto::artifact_path;

/// The path of a file.
pub(super) fn file_path(text: &str) -> Result<String, String> {
    artifact_path::parse(text)
}

/// The path of a file or directory; empty is the run itself. One `/` at the end is fine.
pub(super) fn listed_path(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    artifact_path::parse(text.strip_suffix('/').unwrap_or(text))
}

/// The directories that a file lies in, outermost first.
pub(super) fn directories(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

/// The range of paths below a directory: from the first, inclusive, to the second, exclusive.
pub(super) fn below(directory: &str) -> (String, String) {
    // `0` is the character after `/`.
    (format!("{directory}/"), format!("{directory}0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_paths() {
        assert_eq!(listed_path("").as_deref(), Ok(""));
        assert_eq!(listed_path("a/b/").as_deref(), Ok("a/b"));
        for bad in ["/", "a//", "../a"] {
            assert!(listed_path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_lies_below_is_one_range() {
        let (from, to) = below("a/b");
        for inside in ["a/b/c", "a/b/\u{10ffff}", "a/b/c/d"] {
            assert!(*inside >= *from && *inside < *to, "{inside}");
        }
        for outside in ["a/b", "a/b-c", "a/b0", "a/bc", "a/c"] {
            assert!(*outside < *from || *outside >= *to, "{outside}");
        }
    }

    #[test]
    fn directories_of_a_file() {
        assert_eq!(directories("a/b/c.txt").collect::<Vec<_>>(), ["a", "a/b"]);
        assert_eq!(directories("c.txt").count(), 0);
    }
}
