//! Paths inside a run. Pure.
//!
//! Invariant: a parsed path leads nowhere else, on no system: relative, `/` between parts, none of them empty, `.` or `..`.

/// Longest path, in bytes.
const MAX_BYTES: usize = 1000;

/// The path of a file.
pub(super) fn file_path(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    check(text).map(|()| text.to_owned())
}

/// The path of a file or directory; empty is the run itself. One `/` at the end is fine.
pub(super) fn listed_path(text: &str) -> Result<String, String> {
    let path = text.strip_suffix('/').unwrap_or(text);
    if text.is_empty() {
        return Ok(String::new());
    }
    check(path).map(|()| path.to_owned())
}

fn check(path: &str) -> Result<(), String> {
    if path.len() > MAX_BYTES {
        return Err(format!(
            "must have at most {MAX_BYTES} bytes, has {}",
            path.len()
        ));
    }
    if path.chars().any(char::is_control) {
        return Err("must not hold control characters".to_owned());
    }
    if path.contains('\\') {
        return Err("must not hold `\\`; parts are separated by `/`".to_owned());
    }
    if path.starts_with('/') {
        return Err("must be relative, without `/` at the beginning".to_owned());
    }
    match path
        .split('/')
        .find(|part| matches!(*part, "" | "." | ".."))
    {
        Some("") => Err("must not hold empty parts".to_owned()),
        Some(part) => Err(format!("must not hold the part `{part}`")),
        None => Ok(()),
    }
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
    fn paths_lead_nowhere_else() {
        for good in [
            "model.pkl",
            "a/b c/ö.txt",
            "...",
            "a/.hidden",
            &"x".repeat(1000),
        ] {
            assert_eq!(file_path(good).as_deref(), Ok(good));
        }
        let long = "x".repeat(1001);
        for bad in [
            "", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\\b", "a\nb", "a\0", &long,
        ] {
            assert!(file_path(bad).is_err(), "{bad:?}");
        }
    }

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
