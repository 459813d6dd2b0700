//! [`Pins`]: the files that a query read, so that a later one can insist on the same.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use mlplat_proto::features::v1 as pb;
use sha2::{Digest as _, Sha256};

use crate::{
    error::{Error, Result},
    objects::sources::{Listing, Sources},
};

/// The Parquet sources that were read: name -> address and files.
#[derive(Debug, Clone, Default)]
pub(in crate::features) struct Pins(BTreeMap<String, Pinned>);

#[derive(Debug, Clone)]
struct Pinned {
    uri: String,
    files: Vec<pb::FileSnapshot>,
}

impl Pins {
    /// Takes note of what a source is.
    pub(super) fn add(&mut self, source: &str, uri: &str, listing: &Listing) {
        let pinned = Pinned {
            uri: uri.to_owned(),
            files: snapshot(listing),
        };
        self.0.insert(source.to_owned(), pinned);
    }

    /// What was read, for the client.
    pub(in crate::features) fn snapshots(&self) -> Vec<pb::SourceSnapshot> {
        self.0
            .iter()
            .map(|(source, pinned)| pb::SourceSnapshot {
                source: source.clone(),
                files: pinned.files.clone(),
            })
            .collect()
    }

    /// Name, address and a digest of the files' identity of each source.
    pub(in crate::features) fn digests(&self) -> impl Iterator<Item = (&str, &str, String)> {
        self.0
            .iter()
            .map(|(name, pinned)| (name.as_str(), pinned.uri.as_str(), digest(&pinned.files)))
    }

    /// Whether the sources are what an earlier query read. No expectation is met by everything.
    pub(in crate::features) fn expect(&self, expected: &[pb::SourceSnapshot]) -> Result<()> {
        if expected.is_empty() {
            return Ok(());
        }
        for (source, pinned) in &self.0 {
            let Some(wanted) = expected.iter().find(|wanted| &wanted.source == source) else {
                let text = format!(
                    "source `{source}` is read now, but was not in the snapshots; a definition must have changed"
                );
                return Err(changed(text));
            };
            check_same(source, &wanted.files, &pinned.files)?;
        }
        Ok(())
    }

    /// Whether the files are still what they were when the query began.
    pub(in crate::features) async fn recheck(&self, sources: &Sources) -> Result<()> {
        for (source, pinned) in &self.0 {
            let listing = match sources.list(&pinned.uri).await {
                Ok(listing) => listing,
                Err(Error::FailedPrecondition { message, .. }) => {
                    let text = format!("source `{source}` changed while it was read: {message}");
                    return Err(changed(text));
                }
                Err(error) => return Err(error),
            };
            check_same(source, &pinned.files, &snapshot(&listing))?;
        }
        Ok(())
    }
}

/// Whether columns of this type can tell times.
pub(in crate::features) fn is_timestamp(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64
    )
}

fn snapshot(listing: &Listing) -> Vec<pb::FileSnapshot> {
    let file = |file: &crate::objects::sources::SourceFile| pb::FileSnapshot {
        path: file.uri.clone(),
        size_bytes: file.meta.size,
        modified_at: Some(modified(&file.meta)),
        etag: file.meta.e_tag.clone().unwrap_or_default(),
    };
    listing.files.iter().map(file).collect()
}

/// In microseconds, which every client can give back.
fn modified(meta: &object_store::ObjectMeta) -> prost_types::Timestamp {
    let micros = meta.last_modified.timestamp_micros();
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0),
    }
}

fn check_same(source: &str, before: &[pb::FileSnapshot], now: &[pb::FileSnapshot]) -> Result<()> {
    let by_path = |files: &[pb::FileSnapshot]| -> BTreeMap<String, pb::FileSnapshot> {
        let each = files.iter().cloned();
        each.map(|mut file| {
            if let Some(at) = &mut file.modified_at {
                at.nanos -= at.nanos % 1_000;
            }
            (file.path.clone(), file)
        })
        .collect()
    };
    let (before, now) = (by_path(before), by_path(now));
    for (path, file) in &before {
        match now.get(path) {
            None => return Err(changed(format!("`{path}` of source `{source}` is gone"))),
            Some(other) if other != file => {
                let text = format!(
                    "`{path}` of source `{source}` changed: it had {} bytes and was modified at {}, now {} bytes at {}",
                    file.size_bytes,
                    time_text(file),
                    other.size_bytes,
                    time_text(other)
                );
                return Err(changed(text));
            }
            Some(_) => {}
        }
    }
    match now.keys().find(|path| !before.contains_key(*path)) {
        Some(path) => Err(changed(format!("`{path}` of source `{source}` is new"))),
        None => Ok(()),
    }
}

fn time_text(file: &pb::FileSnapshot) -> String {
    let at = file
        .modified_at
        .as_ref()
        .and_then(crate::clock::Timestamp::from_proto);
    at.map_or_else(|| "an unknown time".to_owned(), |at| at.rfc3339())
}

fn changed(text: String) -> Error {
    Error::precondition("SOURCE_CHANGED", text)
}

fn digest(files: &[pb::FileSnapshot]) -> String {
    let mut hash = Sha256::new();
    for file in files {
        let at = file.modified_at.unwrap_or_default();
        for part in [
            file.path.as_bytes(),
            &file.size_bytes.to_be_bytes(),
            &at.seconds.to_be_bytes(),
            &at.nanos.to_be_bytes(),
            file.etag.as_bytes(),
        ] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, size_bytes: u64, nanos: i32) -> pb::FileSnapshot {
        pb::FileSnapshot {
            path: path.to_owned(),
            size_bytes,
            modified_at: Some(prost_types::Timestamp { seconds: 5, nanos }),
            etag: "e".to_owned(),
        }
    }

    #[test]
    fn a_change_of_any_file_is_noticed() {
        let before = [file("a", 1, 7_000), file("b", 2, 0)];
        let same = |now: &[pb::FileSnapshot]| check_same("s", &before, now);
        assert!(same(&[file("b", 2, 0), file("a", 1, 7_000)]).is_ok());
        assert!(
            same(&[file("a", 1, 7_999), file("b", 2, 0)]).is_ok(),
            "microseconds count"
        );
        assert!(same(&[file("a", 1, 7_000)]).is_err());
        assert!(same(&[file("a", 1, 7_000), file("b", 3, 0)]).is_err());
        assert!(same(&[file("a", 1, 7_000), file("b", 2, 0), file("c", 1, 0)]).is_err());
        assert_ne!(digest(&before), digest(&before[..1]));
    }
}
