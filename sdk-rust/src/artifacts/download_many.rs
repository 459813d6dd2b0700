//! Many small artifacts in one call, to local files.

use std::{collections::HashMap, io::Write as _, sync::Arc};

use mlplat_proto::tracking::v1::{self as pb};
use sha2::{Digest as _, Sha256};

use super::{
    Artifact, Artifacts, artifacts,
    breaks::Breaks,
    download::{Download, wrong_digest},
    target::Target,
    upload_many::interrupted,
};
use crate::{
    call::CallError,
    error::{Error, Result},
    retry::Safety,
};

/// Most files and bytes of one call.
const CALL_FILES: usize = 500;
const CALL_BYTES: u64 = 16 << 20;

/// Small files, cut into calls.
pub(super) fn calls(files: Vec<Artifact>) -> Vec<Vec<Artifact>> {
    let mut groups: Vec<Vec<Artifact>> = Vec::new();
    let mut size = 0;
    for file in files {
        match groups.last_mut() {
            Some(group) if group.len() < CALL_FILES && size + file.size_bytes <= CALL_BYTES => {
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
    /// Downloads the files of one call.
    pub(super) async fn download_many(
        &self,
        download: &Download<'_>,
        files: Vec<Artifact>,
    ) -> Result<()> {
        let message = pb::DownloadArtifactsRequest {
            project: self.client.project().to_owned(),
            run_id: download.run_id.to_owned(),
            paths: files.iter().map(|file| file.path.clone()).collect(),
        };
        let expected: HashMap<String, String> = files
            .into_iter()
            .map(|file| (file.path, file.sha256))
            .collect();
        let expected = Arc::new(expected);
        let mut breaks = Breaks::default();
        loop {
            match self.try_many(download, &message, &expected).await {
                Err(error) if breaks.outlast(&self.client, &error).await => {}
                done => return done,
            }
        }
    }

    async fn try_many(
        &self,
        download: &Download<'_>,
        message: &pb::DownloadArtifactsRequest,
        expected: &Arc<HashMap<String, String>>,
    ) -> Result<()> {
        let call = self.client.streaming(
            Safety::Repeatable,
            "download_artifacts",
            |request_id, remaining| {
                let request = self.client.request(message.clone(), remaining, &request_id);
                let expected = Arc::clone(expected);
                async move {
                    let mut stub = artifacts(self.client.channel());
                    let mut stream = stub.download_artifacts(request).await?.into_inner();
                    let mut arrived = 0;
                    while let Some(message) = stream.message().await? {
                        let (target, cut) = (download.target.clone(), download.cut);
                        let expected = Arc::clone(&expected);
                        arrived += message.files.len();
                        let bytes = message.files.iter().map(|f| f.content.len() as u64).sum();
                        let written = tokio::task::spawn_blocking(move || {
                            let mut files = message.files.iter();
                            files.try_for_each(|file| write(&target, cut, file, &expected))
                        });
                        written.await.map_err(interrupted)??;
                        download.add(bytes);
                    }
                    if arrived == expected.len() {
                        Ok(())
                    } else {
                        Err(CallError::Final(Error::protocol("file")))
                    }
                }
            },
        );
        call.await
    }
}

/// Writes one file that fits the digest of its record. Blocking.
fn write(
    target: &Target,
    cut: usize,
    file: &pb::DownloadedArtifact,
    expected: &HashMap<String, String>,
) -> Result<()> {
    let path = file.artifact.as_ref().map_or("", |record| &record.path);
    let Some(sha256) = expected.get(path) else {
        return Err(Error::protocol("file asked for"));
    };
    if !hex::encode(Sha256::digest(&file.content)).eq_ignore_ascii_case(sha256) {
        return Err(wrong_digest(path, file.content.len() as u64));
    }
    let (mut local, unfinished) = target.begin(&path[cut..])?;
    local
        .write_all(&file.content)
        .map_err(|e| Error::io(unfinished.path(), e))?;
    drop(local);
    unfinished.finish()
}
