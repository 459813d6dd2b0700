//! The Parquet files of users, read where they are: on the server's file system or in S3.
//!
//! Invariant: a file outside the allowed roots is neither read nor probed, whatever `..`, symbolic links or globs are in its
//! address; a listing is sorted by address, so that "written last" means the same on every read. This module must not know
//! what the files hold. Everything that goes wrong is the caller's to mend, and says so: never an internal error.

use std::{
    collections::HashMap,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use object_store::{
    ClientOptions, ObjectMeta, ObjectStore, ObjectStoreExt as _, RetryConfig, aws::AmazonS3Builder,
    local::LocalFileSystem, path::Path as ObjectPath,
};
use parking_lot::Mutex;

use super::location::Location;
use crate::{
    config::S3Config,
    error::{Error, Result},
};

/// Most files that one address may stand for.
const MAX_FILES: usize = 10_000;
/// Files looked at side by side.
const LOOKS: usize = 16;

/// Where users' files are read from.
#[derive(Debug)]
pub struct Sources {
    /// What may be read; `None`: everything.
    roots: Option<Vec<String>>,
    s3: S3Config,
    local: Arc<dyn ObjectStore>,
    buckets: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

/// The files of one source, sorted by address.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The store that all of them are in: `file:///` or `s3://bucket/`.
    pub store_url: url::Url,
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The files; at least one.
    pub files: Vec<SourceFile>,
}

/// One file as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Absolute path or `s3://` address.
    pub uri: String,
    /// Where it is in its store, with size, modification time and ETag.
    pub meta: ObjectMeta,
}

impl Sources {
    /// `roots` are the folders and `s3://` prefixes that may be read; `None` when everything may.
    pub fn new(roots: Option<Vec<String>>, s3: S3Config) -> Self {
        Self {
            roots,
            s3,
            local: Arc::new(LocalFileSystem::new()),
            buckets: Mutex::default(),
        }
    }

    /// The files at an address, as they are now.
    ///
    /// # Errors
    /// FAILED_PRECONDITION with `PATH_NOT_ALLOWED`, `SOURCE_NOT_FOUND`, `SOURCE_UNREADABLE`, `BUCKET_NOT_FOUND`; UNAVAILABLE
    /// when the store does not answer.
    pub async fn list(&self, uri: &str) -> Result<Listing> {
        let location =
            Location::parse(uri).map_err(|text| Error::precondition("PATH_NOT_ALLOWED", text))?;
        let listing = match &location {
            Location::Local(path) => self.list_local(&location, path).await?,
            Location::S3 { bucket, key } => self.list_bucket(&location, bucket, key).await?,
        };
        if listing.files.is_empty() {
            let text = format!("no file matches `{uri}`; check the path and the pattern");
            return Err(Error::precondition("SOURCE_NOT_FOUND", text));
        }
        Ok(listing)
    }

    async fn list_local(&self, location: &Location, path: &str) -> Result<Listing> {
        let roots = self.local_roots();
        let prefix = PathBuf::from(location.literal_prefix());
        let (pattern, is_glob) = (path.to_owned(), location.is_glob());
        let paths = tokio::task::spawn_blocking(move || {
            // Lexically first, so that nothing outside is even looked at.
            check_allowed(&prefix, roots.as_deref())?;
            let paths = if is_glob && !Path::new(&pattern).exists() {
                expand(&pattern)?
            } else {
                vec![PathBuf::from(&pattern)]
            };
            for path in &paths {
                match path.canonicalize() {
                    Ok(real) => check_allowed(&real, roots.as_deref())?,
                    Err(error) => return Err(io_error(path, &error)),
                }
                if path.is_dir() {
                    let shown = path.display();
                    let text = format!(
                        "`{shown}` is a folder; to read its files, write {shown}/*.parquet"
                    );
                    return Err(Error::precondition("SOURCE_UNREADABLE", text));
                }
            }
            Ok(paths)
        })
        .await
        .map_err(Error::internal)??;
        // Boxed, for the compiler does not see through borrowed futures in a stream.
        let looks: Vec<_> = paths
            .into_iter()
            .map(|path| self.look(path).boxed())
            .collect();
        let mut files: Vec<SourceFile> = stream::iter(looks).buffered(LOOKS).try_collect().await?;
        files.sort_by(|a, b| a.uri.cmp(&b.uri));
        Ok(Listing {
            store_url: store_url("file:///")?,
            store: self.local.clone(),
            files,
        })
    }

    async fn look(&self, path: PathBuf) -> Result<SourceFile> {
        let uri = path.to_str().map(str::to_owned).ok_or_else(|| {
            Error::precondition(
                "SOURCE_UNREADABLE",
                format!("`{}` is not UTF-8", path.display()),
            )
        })?;
        let location = ObjectPath::from_absolute_path(&path).map_err(|error| {
            Error::precondition(
                "SOURCE_UNREADABLE",
                format!("`{uri}` cannot be addressed: {error}"),
            )
        })?;
        let meta = self
            .local
            .head(&location)
            .await
            .map_err(|error| store_error(&uri, &error))?;
        Ok(SourceFile { uri, meta })
    }

    async fn list_bucket(&self, location: &Location, bucket: &str, key: &str) -> Result<Listing> {
        self.check_bucket_allowed(bucket, location.literal_prefix())?;
        let store = self.bucket(bucket)?;
        let uri = |path: &ObjectPath| format!("s3://{bucket}/{path}");
        let shown = format!("s3://{bucket}/{key}");
        let mut files = Vec::new();
        if location.is_glob() {
            let pattern = glob::Pattern::new(key)
                .map_err(|e| Error::precondition("PATH_NOT_ALLOWED", e.to_string()))?;
            let prefix = ObjectPath::from(location.literal_prefix());
            let mut objects = store.list((!prefix.as_ref().is_empty()).then_some(&prefix));
            while let Some(found) = objects.next().await {
                let meta = found.map_err(|error| store_error(&shown, &error))?;
                if pattern.matches_with(meta.location.as_ref(), MATCHING) {
                    files.push(SourceFile {
                        uri: uri(&meta.location),
                        meta,
                    });
                    check_count(files.len(), &shown)?;
                }
            }
        } else {
            match store.head(&ObjectPath::from(key)).await {
                Ok(meta) => files.push(SourceFile {
                    uri: uri(&meta.location),
                    meta,
                }),
                // A HEAD has no body that would say whether it is the key or the bucket.
                Err(object_store::Error::NotFound { .. }) => {
                    if let Some(Err(error)) = store.list(Some(&ObjectPath::from(key))).next().await
                    {
                        return Err(store_error(&shown, &error));
                    }
                    let text = format!("there is no object `{shown}`");
                    return Err(Error::precondition("SOURCE_NOT_FOUND", text));
                }
                Err(error) => return Err(store_error(&shown, &error)),
            }
        }
        files.sort_by(|a, b| a.uri.cmp(&b.uri));
        Ok(Listing {
            store_url: store_url(&format!("s3://{bucket}/"))?,
            store,
            files,
        })
    }

    /// The roots on the file system with symbolic links resolved, beside how they are written.
    fn local_roots(&self) -> Option<Vec<PathBuf>> {
        self.roots.as_ref().map(|roots| {
            roots
                .iter()
                .filter(|root| root.starts_with('/'))
                .map(PathBuf::from)
                .flat_map(|root| [root.canonicalize().unwrap_or_else(|_| root.clone()), root])
                .collect()
        })
    }

    fn check_bucket_allowed(&self, bucket: &str, prefix: &str) -> Result<()> {
        let Some(roots) = &self.roots else {
            return Ok(());
        };
        let address = format!("s3://{bucket}/{prefix}");
        let inside = |root: &String| {
            let root = root.trim_end_matches('/');
            root.starts_with("s3://")
                && address
                    .strip_prefix(root)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if roots.iter().any(inside) {
            return Ok(());
        }
        Err(not_allowed(&address))
    }

    fn bucket(&self, bucket: &str) -> Result<Arc<dyn ObjectStore>> {
        if let Some(store) = self.buckets.lock().get(bucket) {
            return Ok(store.clone());
        }
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_virtual_hosted_style_request(!self.s3.path_style)
            .with_client_options(ClientOptions::new().with_allow_http(true))
            .with_retry(RetryConfig {
                max_retries: 3,
                retry_timeout: std::time::Duration::from_secs(15),
                ..RetryConfig::default()
            });
        if let Some(endpoint) = &self.s3.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(region) = &self.s3.region {
            builder = builder.with_region(region);
        }
        if let Some(id) = &self.s3.access_key_id {
            builder = builder.with_access_key_id(id);
        }
        if let Some(secret) = &self.s3.secret_access_key {
            builder = builder.with_secret_access_key(secret);
        }
        let store: Arc<dyn ObjectStore> = Arc::new(builder.build().map_err(|error| {
            Error::precondition(
                "SOURCE_UNREADABLE",
                format!("bucket `{bucket}` cannot be reached: {error}"),
            )
        })?);
        self.buckets.lock().insert(bucket.to_owned(), store.clone());
        Ok(store)
    }
}

/// A wildcard never crosses a folder, but for `**`.
const MATCHING: glob::MatchOptions = glob::MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

fn expand(pattern: &str) -> Result<Vec<PathBuf>> {
    let entries = glob::glob_with(pattern, MATCHING).map_err(|error| {
        Error::precondition(
            "SOURCE_NOT_FOUND",
            format!("`{pattern}` is not a glob: {error}"),
        )
    })?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| io_error(error.path(), error.error()))?;
        if !path.is_dir() {
            paths.push(path);
            check_count(paths.len(), pattern)?;
        }
    }
    Ok(paths)
}

fn check_count(files: usize, address: &str) -> Result<()> {
    if files <= MAX_FILES {
        return Ok(());
    }
    let text = format!("`{address}` stands for more than {MAX_FILES} files; narrow it down");
    Err(Error::exhausted("TOO_MANY_FILES", text))
}

/// Whether a path without `..` lies in a root. `None` allows all.
fn check_allowed(path: &Path, roots: Option<&[PathBuf]>) -> Result<()> {
    let Some(roots) = roots else { return Ok(()) };
    let plain = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if plain && roots.iter().any(|root| path.starts_with(root)) {
        return Ok(());
    }
    Err(not_allowed(&path.display().to_string()))
}

fn not_allowed(address: &str) -> Error {
    let text = format!(
        "`{address}` is outside the folders that this server may read; ask its operator to add it to sources.allowed_roots"
    );
    Error::precondition("PATH_NOT_ALLOWED", text)
}

fn io_error(path: &Path, error: &std::io::Error) -> Error {
    let shown = path.display();
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Error::precondition(
            "SOURCE_NOT_FOUND",
            format!("there is no file `{shown}` on the server"),
        ),
        kind => Error::precondition(
            "SOURCE_UNREADABLE",
            format!("`{shown}` cannot be read: {kind}"),
        ),
    }
}

/// A failure of a store, told without what only the operator may see.
pub fn store_error(address: &str, error: &object_store::Error) -> Error {
    use object_store::Error as Store;
    let text = error.to_string();
    if text.contains("NoSuchBucket") {
        return Error::precondition(
            "BUCKET_NOT_FOUND",
            format!("the bucket of `{address}` does not exist"),
        );
    }
    match error {
        Store::NotFound { .. } => {
            Error::precondition("SOURCE_NOT_FOUND", format!("there is no file `{address}`"))
        }
        Store::PermissionDenied { .. } | Store::Unauthenticated { .. } => Error::precondition(
            "SOURCE_UNREADABLE",
            format!("the server may not read `{address}`"),
        ),
        Store::Precondition { .. } | Store::NotModified { .. } => Error::precondition(
            "SOURCE_CHANGED",
            format!("`{address}` changed while it was read"),
        ),
        _ => {
            tracing::warn!(%address, %error, "a source cannot be read");
            Error::unavailable(
                "SOURCE_UNAVAILABLE",
                format!("`{address}` cannot be read now; its store does not answer as expected"),
            )
        }
    }
}

fn store_url(text: &str) -> Result<url::Url> {
    url::Url::parse(text).map_err(|error| {
        Error::precondition(
            "SOURCE_NOT_FOUND",
            format!("`{text}` is not an address: {error}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Sources {
        Sources::new(None, crate::config::Config::default().s3)
    }

    fn reason(error: Error) -> &'static str {
        match error {
            Error::FailedPrecondition { reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn files_are_listed_by_path() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.parquet", "a.parquet", "c.txt"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let glob = format!("{}/*.parquet", folder.path().display());
        let listing = all().list(&glob).await.unwrap();
        let names: Vec<_> = listing
            .files
            .iter()
            .map(|f| f.uri.rsplit('/').next().unwrap())
            .collect();
        assert_eq!(names, ["a.parquet", "b.parquet"]);
        assert_eq!(listing.files[0].meta.size, 9);
        let missing = format!("{}/none-*.parquet", folder.path().display());
        assert_eq!(
            reason(all().list(&missing).await.unwrap_err()),
            "SOURCE_NOT_FOUND"
        );
        let missing = format!("{}/none.parquet", folder.path().display());
        assert_eq!(
            reason(all().list(&missing).await.unwrap_err()),
            "SOURCE_NOT_FOUND"
        );
        let itself = folder.path().display().to_string();
        assert_eq!(
            reason(all().list(&itself).await.unwrap_err()),
            "SOURCE_UNREADABLE"
        );
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn nothing_outside_the_roots_is_read() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = outside.path().join("secret.parquet");
        std::fs::write(&secret, "x").unwrap();
        std::fs::write(inside.path().join("own.parquet"), "x").unwrap();
        std::os::unix::fs::symlink(&secret, inside.path().join("link.parquet")).unwrap();
        let root = inside.path().display().to_string();
        let sources = Sources::new(
            Some(vec![root.clone()]),
            crate::config::Config::default().s3,
        );
        assert!(sources.list(&format!("{root}/own.parquet")).await.is_ok());
        for bad in [
            secret.display().to_string(),
            format!("{root}/link.parquet"),
            format!("{root}/*.parquet"),
            format!("{root}-other/*.parquet"),
            "/**/*.parquet".to_owned(),
            "s3://bucket/key.parquet".to_owned(),
        ] {
            assert_eq!(
                reason(sources.list(&bad).await.unwrap_err()),
                "PATH_NOT_ALLOWED",
                "{bad}"
            );
        }
    }
}
