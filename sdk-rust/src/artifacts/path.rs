//! Paths of artifacts: relative, `/` between the parts, no `.` or `..`, at most 1,000 bytes.
//!
//! Invariant: what [`checked`] lets pass cannot leave the directory it is joined to, wherever it came from.

use std::path::{Component, Path};

use crate::error::{Error, Result};

const MAX_BYTES: usize = 1000;

/// The path as the contracts want it; a single `/` at the end is dropped.
pub(super) fn checked(path: &str) -> Result<String> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let wrong = |why: &str| {
        Err(Error::misuse(format!(
            "`{path}` cannot be the path of an artifact: {why}"
        )))
    };
    if path.is_empty() {
        return wrong("it is empty");
    }
    if path.len() > MAX_BYTES {
        return wrong("it is longer than 1,000 bytes");
    }
    if path.starts_with('/') {
        return wrong("it must be relative");
    }
    if path.chars().any(char::is_control) {
        return wrong("it has control characters");
    }
    for part in path.split('/') {
        match part {
            "" => return wrong("it has an empty part"),
            "." | ".." => return wrong("`.` and `..` are not allowed in it"),
            _ => {}
        }
    }
    Ok(path.to_owned())
}

/// A path that can be joined to a local directory too; the server is not trusted to have checked it.
pub(super) fn checked_local(path: &str) -> Result<String> {
    let path = checked(path)?;
    // On some systems more than `/` is special, e.g. `C:` or `\`.
    if Path::new(&path)
        .components()
        .all(|part| matches!(part, Component::Normal(_)))
    {
        Ok(path)
    } else {
        Err(Error::misuse(format!(
            "artifact `{path}` cannot be a local file on this system"
        )))
    }
}

/// `directory/name`, or `name` where the directory is empty.
pub(super) fn joined(directory: &str, name: &str) -> Result<String> {
    if directory.is_empty() {
        checked(name)
    } else {
        checked(&format!("{}/{name}", checked(directory)?))
    }
}

/// The last part of a local path as text.
pub(super) fn file_name(local: &Path) -> Result<String> {
    let name = local.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| {
        Error::misuse(format!(
            "`{}` has no file name in UTF-8 that an artifact could have",
            local.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_paths_pass() {
        for good in [
            "a",
            "a/b.c",
            "weights/epoch=1.pt",
            ".hidden",
            "..a",
            "a b",
            "ä/ö",
        ] {
            assert_eq!(checked(good).unwrap(), good);
            assert_eq!(checked_local(good).unwrap(), good);
        }
        assert_eq!(checked("dir/").unwrap(), "dir");
        assert_eq!(joined("", "a").unwrap(), "a");
        assert_eq!(joined("d/e/", "a").unwrap(), "d/e/a");
    }

    #[test]
    fn bad_paths_are_refused() {
        let long = "x".repeat(1001);
        for bad in [
            "",
            "/",
            "/a",
            "..",
            "a/../b",
            "./a",
            "a//b",
            "a\nb",
            "a/\0",
            long.as_str(),
        ] {
            assert!(matches!(checked(bad), Err(Error::Misuse(_))), "{bad:?}");
        }
        assert!(joined("..", "a").is_err());
        assert!(joined("/abs", "a").is_err());
    }
}
