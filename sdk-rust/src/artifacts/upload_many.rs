//! Many small files in one call: read, hashed and packed into messages of about 1 MiB.
//!
//! Invariant: memory is bounded by a few messages, whatever the number of files.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use mlplat_proto::tracking::v1 as pb;
use sha2::{Digest as _, Sha256};

use super::{Artifact, Artifacts, artifacts, meter::CallMeter, tree::LocalFile};
use crate::{
    call::CallError,
    error::{Error, Result},
    outgoing::outgoing,
    retry::Safety,
};

/// Largest file that goes this way.
pub(super) const SMALL: u64 = 1 << 20;
/// Content of a message.
const MESSAGE: u64 = 1 << 20;
/// Most files and bytes of one call, so that one that breaks is soon sent again.
const CALL_FILES: usize = 2000;
const CALL_BYTES: u64 = 32 << 20;

/// Small files, cut into calls.
pub(super) fn calls(files: Vec<LocalFile>) -> Vec<Vec<LocalFile>> {
    cut(files, CALL_FILES, CALL_BYTES)
}

fn cut(files: Vec<LocalFile>, most: usize, bytes: u64) -> Vec<Vec<LocalFile>> {
    let mut groups: Vec<Vec<LocalFile>> = Vec::new();
    let mut size = 0;
    for file in files {
        match groups.last_mut() {
            Some(group) if group.len() < most && size + file.size_bytes <= bytes => {
                size += file.size_bytes;
                group.push(file);
            }
            _ => {
                size = file.size_bytes;
                groups.push(vec![file]);
            }
        }
    }
    groups
}

impl Artifacts {
    /// Uploads the files of one call.
    pub(super) async fn upload_many(
        &self,
        run_id: &str,
        files: &[LocalFile],
        meter: &Arc<CallMeter>,
    ) -> Result<Vec<Artifact>> {
        let upload = self.client.streaming(
            Safety::Repeatable,
            "upload_artifacts",
            |request_id, remaining| {
                meter.begin();
                let (files, meter) = (files.to_vec(), Arc::clone(meter));
                async move {
                    let (messages, mut failure) = outgoing(self.packed(run_id, files, meter));
                    let request = self.client.request(messages, remaining, &request_id);
                    let mut stub = artifacts(self.client.channel());
                    let answer = failure
                        .or(async { Ok(stub.upload_artifacts(request).await?) })
                        .await?;
                    let recorded = answer.into_inner().artifacts;
                    Ok::<_, CallError>(recorded.into_iter().map(Artifact::from).collect())
                }
            },
        );
        upload.await
    }

    /// The messages of one call.
    fn packed(
        &self,
        run_id: &str,
        files: Vec<LocalFile>,
        meter: Arc<CallMeter>,
    ) -> impl Stream<Item = Result<pb::UploadArtifactsRequest>> + Send + 'static {
        let (project, run_id) = (self.client.project().to_owned(), run_id.to_owned());
        let messages = cut(files, usize::MAX, MESSAGE).into_iter().enumerate();
        stream::iter(messages)
            .map(move |(number, files)| {
                let (media_type, meter) = (meter.media_type().to_owned(), meter.clone());
                let (project, run_id) = match number {
                    0 => (project.clone(), run_id.clone()),
                    _ => Default::default(),
                };
                async move {
                    let read = tokio::task::spawn_blocking(move || {
                        let read = files.iter().map(|file| read_small(file, &media_type));
                        read.collect::<Result<Vec<_>>>()
                    });
                    let files = read.await.map_err(interrupted)??;
                    meter.add(files.iter().map(|file| file.content.len() as u64).sum());
                    Ok(pb::UploadArtifactsRequest {
                        project,
                        run_id,
                        files,
                    })
                }
            })
            .buffered(2)
    }
}

/// What is said of work on another thread that did not end.
pub(super) fn interrupted(error: tokio::task::JoinError) -> Error {
    Error::misuse(format!(
        "reading or writing a file was interrupted: {error}"
    ))
}

fn read_small(file: &LocalFile, media_type: &str) -> Result<pb::SmallArtifact> {
    let content = read_bounded(&file.local)?;
    Ok(pb::SmallArtifact {
        path: file.path.clone(),
        sha256: hex::encode(Sha256::digest(&content)),
        media_type: media_type.to_owned(),
        content: Bytes::from(content),
    })
}

/// A file that has become large meanwhile is an error, not a large message.
fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    let mut content = Vec::new();
    file.take(SMALL + 1)
        .read_to_end(&mut content)
        .map_err(|e| Error::io(path, e))?;
    if content.len() as u64 > SMALL {
        return Err(Error::misuse(format!(
            "`{}` grew while it was uploaded",
            path.display()
        )));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn calls_are_bounded() {
        let file = |size_bytes| LocalFile {
            local: PathBuf::new(),
            path: String::new(),
            size_bytes,
            sha256: None,
        };
        let sizes =
            |groups: Vec<Vec<LocalFile>>| -> Vec<usize> { groups.iter().map(Vec::len).collect() };
        let files = |count| (0..count).map(|_| file(10)).collect();
        assert_eq!(sizes(cut(files(5), 2, 100)), [2, 2, 1]);
        assert_eq!(sizes(cut(files(5), 9, 30)), [3, 2]);
        assert_eq!(sizes(cut(vec![file(99), file(1)], 9, 30)), [1, 1]);
    }
}
