//! Artifacts between the contract and our own types.

use mlplat_proto::tracking::v1 as pb;
use uuid::Uuid;

use super::{media_type, path};
use crate::{
    clock::Timestamp,
    error::{Error, Result},
    request::{self, Violations},
    tracking::entity::artifact,
};

const MAX_MEDIA_TYPE: usize = 250;

/// A parsed header of an upload.
#[derive(Debug)]
pub(super) struct NewArtifact {
    pub(super) run_id: Uuid,
    pub(super) path: String,
    pub(super) size_bytes: i64,
    /// Lower-case hexadecimal.
    pub(super) sha256: String,
    pub(super) media_type: String,
}

impl TryFrom<&pb::ArtifactHeader> for NewArtifact {
    type Error = Error;

    fn try_from(header: &pb::ArtifactHeader) -> Result<Self> {
        let mut violations = Violations::new();
        let run_id = violations.parse("header.run_id", request::uuid(&header.run_id));
        let path = violations.parse("header.path", path::file_path(&header.path));
        let size = i64::try_from(header.size_bytes).map_err(|_| "is beyond what can be stored");
        let size_bytes = violations.parse("header.size_bytes", size);
        let sha256 = violations.parse("header.sha256", sha256(&header.sha256));
        let media_type = match header.media_type.as_str() {
            "" => Some(media_type::guess(&header.path).to_owned()),
            given => violations.parse("header.media_type", request::name(given, MAX_MEDIA_TYPE)),
        };
        violations.finish()?;
        Ok(Self {
            run_id: run_id.unwrap_or_default(),
            path: path.unwrap_or_default(),
            size_bytes: size_bytes.unwrap_or_default(),
            sha256: sha256.unwrap_or_default(),
            media_type: media_type.unwrap_or_default(),
        })
    }
}

fn sha256(text: &str) -> std::result::Result<String, String> {
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!(
            "{} is not a SHA-256 of 64 hexadecimal digits",
            request::quoted(text)
        ))
    }
}

/// The run and path of a request for one file.
pub(super) fn file_of(run_id: &str, path: &str) -> Result<(Uuid, String)> {
    let mut violations = Violations::new();
    let run_id = violations.parse("run_id", request::uuid(run_id));
    let path = violations.parse("path", path::file_path(path));
    violations.finish()?;
    Ok((run_id.unwrap_or_default(), path.unwrap_or_default()))
}

impl From<artifact::Model> for pb::Artifact {
    fn from(row: artifact::Model) -> Self {
        Self {
            path: row.path,
            size_bytes: row.size_bytes.try_into().unwrap_or_default(),
            sha256: row.sha256,
            media_type: row.media_type,
            created_at: Some(Timestamp(row.created_at).to_proto()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bad_fields_of_a_header_at_once() {
        let header = pb::ArtifactHeader {
            path: "../x".to_owned(),
            size_bytes: u64::MAX,
            sha256: "no".to_owned(),
            media_type: "a\nb".to_owned(),
            ..Default::default()
        };
        let Err(Error::Invalid(found)) = NewArtifact::try_from(&header) else {
            panic!("must be invalid")
        };
        assert_eq!(found.len(), 5);
    }

    #[test]
    fn digests_are_lower_case() {
        assert_eq!(sha256(&"AB".repeat(32)), Ok("ab".repeat(32)));
        assert!(sha256(&"g".repeat(64)).is_err());
    }
}
