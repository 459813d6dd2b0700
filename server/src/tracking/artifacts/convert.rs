//! Artifacts between the contract and our own types.

use mlplat_proto::tracking::v1 as pb;
use uuid::Uuid;

use super::{media_type, path};
use crate::{
    app::App,
    clock::Timestamp,
    error::{Error, Result},
    request::{self, Violations},
    tracking::entity::artifact,
};

const MAX_MEDIA_TYPE: usize = 250;

/// Longest name of what an upload is read from, in characters.
const MAX_SOURCE: usize = 250;
/// Most files of one download of many.
const MAX_PATHS: usize = 1000;
/// Most URLs of one request.
const MAX_SIGNED: usize = 100;

/// A file to record.
#[derive(Debug, Clone)]
pub(super) struct NewArtifact {
    pub(super) path: String,
    pub(super) size_bytes: i64,
    /// Lower-case hexadecimal.
    pub(super) sha256: String,
    pub(super) media_type: String,
}

/// What a client says of a file to come, and where in its message it says so.
struct Description<'a> {
    prefix: &'a str,
    path: &'a str,
    size_bytes: u64,
    sha256: &'a str,
    media_type: &'a str,
}

impl Description<'_> {
    fn parse(&self, violations: &mut Violations) -> NewArtifact {
        let field = |name: &str| format!("{}{name}", self.prefix);
        let path = violations.parse(field("path"), path::file_path(self.path));
        let size = i64::try_from(self.size_bytes).map_err(|_| "is beyond what can be stored");
        let size_bytes = violations.parse(field("size_bytes"), size);
        let sha256 = violations.parse(field("sha256"), sha256(self.sha256));
        let media_type = match self.media_type {
            "" => Some(media_type::guess(self.path).to_owned()),
            given => violations.parse(field("media_type"), request::name(given, MAX_MEDIA_TYPE)),
        };
        NewArtifact {
            path: path.unwrap_or_default(),
            size_bytes: size_bytes.unwrap_or_default(),
            sha256: sha256.unwrap_or_default(),
            media_type: media_type.unwrap_or_default(),
        }
    }
}

/// The run and file of the header of an upload.
pub(super) fn header(header: &pb::ArtifactHeader) -> Result<(Uuid, NewArtifact)> {
    let mut violations = Violations::new();
    let run_id = violations.parse("header.run_id", request::uuid(&header.run_id));
    let description = Description {
        prefix: "header.",
        path: &header.path,
        size_bytes: header.size_bytes,
        sha256: &header.sha256,
        media_type: &header.media_type,
    };
    let new = description.parse(&mut violations);
    violations.finish()?;
    Ok((run_id.unwrap_or_default(), new))
}

/// One of many small files.
pub(super) fn small(
    file: &pb::SmallArtifact,
    number: usize,
    violations: &mut Violations,
) -> NewArtifact {
    let description = Description {
        prefix: &format!("files[{number}]."),
        path: &file.path,
        size_bytes: file.content.len() as u64,
        sha256: &file.sha256,
        media_type: &file.media_type,
    };
    description.parse(violations)
}

/// The run and file of an upload in parts; its digest may be empty.
pub(super) fn begin(message: &pb::BeginUploadRequest) -> Result<(Uuid, NewArtifact)> {
    // Not known yet is fine here.
    const NONE: &str = "0000000000000000000000000000000000000000000000000000000000000000";
    let mut violations = Violations::new();
    let run_id = violations.parse("run_id", request::uuid(&message.run_id));
    let description = Description {
        prefix: "",
        path: &message.path,
        size_bytes: message.size_bytes,
        sha256: if message.sha256.is_empty() {
            NONE
        } else {
            &message.sha256
        },
        media_type: &message.media_type,
    };
    let mut new = description.parse(&mut violations);
    violations.parse("source", request::text(&message.source, MAX_SOURCE));
    violations.finish()?;
    if message.sha256.is_empty() {
        new.sha256.clear();
    }
    Ok((run_id.unwrap_or_default(), new))
}

/// The upload and the digest of the request to finish it.
pub(super) fn finish(message: &pb::FinishUploadRequest) -> Result<(Uuid, String)> {
    let mut violations = Violations::new();
    let id = violations.parse("upload_id", request::uuid(&message.upload_id));
    let sha256 = violations.parse("sha256", sha256(&message.sha256));
    violations.finish()?;
    Ok((id.unwrap_or_default(), sha256.unwrap_or_default()))
}

/// The upload and the parts of a request for URLs.
pub(super) fn parts_to_sign(message: &pb::SignUploadPartsRequest) -> Result<Uuid> {
    let mut violations = Violations::new();
    let id = violations.parse("upload_id", request::uuid(&message.upload_id));
    if message.numbers.len() > MAX_SIGNED {
        violations.add("numbers", format!("must be at most {MAX_SIGNED}"));
    }
    violations.finish()?;
    Ok(id.unwrap_or_default())
}

/// The run and the paths of a request for many files.
pub(super) fn files_of(message: &pb::DownloadArtifactsRequest) -> Result<(Uuid, Vec<String>)> {
    let mut violations = Violations::new();
    let run_id = violations.parse("run_id", request::uuid(&message.run_id));
    if message.paths.is_empty() || message.paths.len() > MAX_PATHS {
        violations.add("paths", format!("must be 1 to {MAX_PATHS}"));
    }
    let mut paths = Vec::with_capacity(message.paths.len().min(MAX_PATHS));
    for (number, text) in message.paths.iter().take(MAX_PATHS).enumerate() {
        paths.extend(violations.parse(format!("paths[{number}]"), path::file_path(text)));
    }
    violations.finish()?;
    Ok((run_id.unwrap_or_default(), paths))
}

/// The digest that a file is expected to have, if any.
pub(super) fn expected_digest(text: &str) -> Result<Option<String>> {
    if text.is_empty() {
        return Ok(None);
    }
    let mut violations = Violations::new();
    let sha256 = violations.parse("sha256", sha256(text));
    violations.finish()?;
    Ok(sha256)
}

/// Refuses what is larger than the settings allow.
pub(super) fn check_size(app: &App, size_bytes: u64) -> Result<()> {
    let most = app.config.limits.max_artifact_bytes;
    if size_bytes <= most {
        return Ok(());
    }
    Err(Error::exhausted(
        "ARTIFACT_TOO_LARGE",
        format!(
            "the file has {size_bytes} bytes, and limits.max_artifact_bytes of the server is {most}"
        ),
    ))
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
        let Err(Error::Invalid(found)) = super::header(&header) else {
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
