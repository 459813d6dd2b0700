//! Paths of artifacts, by the rule of the contract; the server is not trusted to have applied it.
//!
//! Invariant: what [`checked`] lets pass cannot leave the directory it is joined to, wherever it came from.

use std::path::{Component, Path};

use mlplat_proto::artifact_path;

use crate::error::{Error, Result};

/// The path as the contracts want it; a single `/` at the end is dropped.
pub(super) fn checked(path: &str) -> Result<String> {
    let path = path.strip_suffix('/').unwrap_or(path);
    artifact_path::parse(path).map_err(|why| {
        Error::misuse(format!(
            "`{path}` cannot be the path of an artifact: it {why}"
        ))
    })
}

/// A path that can be joined to a local directory too.
pub(super) fn checked_local(path: &str) -> Result<String> {
    let path = checked(path)?;
    let refused = |why: &str| {
        Err(Error::misuse(format!(
            "artifact `{path}` cannot be a local file on this system: {why}"
        )))
    };
    if cfg!(windows)
        && let Some(why) = artifact_path::refused_by_windows(&path)
    {
        return refused(&why);
    }
    let plain = Path::new(&path)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !plain {
        return refused("a part of it is special");
    }
    Ok(path)
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
            "a\\b",
            "C:/x",
            "a／b",
            long.as_str(),
        ] {
            assert!(matches!(checked(bad), Err(Error::Misuse(_))), "{bad:?}");
        }
        assert!(joined("..", "a").is_err());
        assert!(joined("/abs", "a").is_err());
    }
}
