//! Addresses of users' files: absolute paths, globs, `s3://bucket/key`. Pure.
//!
//! Invariant: what was parsed has no `..` in it, and a path is normalized, so that a prefix of it is a folder above it.

/// A parsed address of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// Absolute path or glob on the server's file system, normalized.
    Local(String),
    /// Key or glob in a bucket.
    S3 {
        /// The bucket.
        bucket: String,
        /// The key or glob.
        key: String,
    },
}

impl Location {
    /// Parses an address.
    ///
    /// # Errors
    /// A text that says what is wrong with it.
    pub fn parse(uri: &str) -> Result<Self, String> {
        if uri.is_empty() {
            return Err("is empty; give an absolute path, a glob, or s3://bucket/key".to_owned());
        }
        if uri.chars().any(char::is_control) {
            return Err("has control characters".to_owned());
        }
        let location = if let Some(rest) = uri.strip_prefix("s3://") {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() || key.is_empty() || bucket.contains(['*', '?', '[']) {
                return Err(format!("`{uri}` is not of the form s3://bucket/key"));
            }
            Self::S3 {
                bucket: bucket.to_owned(),
                key: key.to_owned(),
            }
        } else {
            let path = uri.strip_prefix("file://").unwrap_or(uri);
            if !path.starts_with('/') {
                return Err(format!(
                    "`{uri}` is neither an absolute path nor an s3:// address; the server does not know the client's \
                     working directory"
                ));
            }
            Self::Local(path.to_owned())
        };
        if location.path().split('/').any(|part| part == "..") {
            return Err(format!("`{uri}` has `..` in it; name the folder itself"));
        }
        if let Self::Local(path) = location {
            let parts: Vec<&str> = path
                .split('/')
                .filter(|part| !part.is_empty() && *part != ".")
                .collect();
            return Ok(Self::Local(format!("/{}", parts.join("/"))));
        }
        if location.is_glob()
            && let Err(error) = glob::Pattern::new(location.path())
        {
            return Err(format!("`{uri}` is not a glob: {error}"));
        }
        Ok(location)
    }

    pub(super) fn path(&self) -> &str {
        match self {
            Self::Local(path) => path,
            Self::S3 { key, .. } => key,
        }
    }

    pub(super) fn is_glob(&self) -> bool {
        self.path().contains(['*', '?', '['])
    }

    /// What comes before the first wildcard, up to a whole folder.
    pub(super) fn literal_prefix(&self) -> &str {
        let path = self.path();
        let end = path.find(['*', '?', '[']).unwrap_or(path.len());
        if end == path.len() {
            return path;
        }
        &path[..path[..end].rfind('/').unwrap_or(0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_absolute_and_without_dots() {
        let local = |path: &str| Ok(Location::Local(path.to_owned()));
        assert_eq!(
            Location::parse("/a//b/./c.parquet"),
            local("/a/b/c.parquet")
        );
        assert_eq!(
            Location::parse("file:///a/*.parquet"),
            local("/a/*.parquet")
        );
        for bad in [
            "",
            "a.parquet",
            "/a/../b",
            "s3://",
            "s3://bucket",
            "s3://b/x/../y",
            "/a\0b",
        ] {
            assert!(Location::parse(bad).is_err(), "{bad}");
        }
    }
}
