//! What the catalogue tells the lineage.

use sea_orm::ConnectionTrait;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use mlplat_proto::catalogue::v1 as pb;

use super::{convert::Move, stage::Stage};
use crate::{
    auth::Scope,
    clock::Timestamp,
    error::Result,
    lineage::{Dataset, EventType, Names, RunEvent, store},
    tracking::entity::run,
};

/// Digest of what a version holds: that of the file, or of the list of files of a directory.
fn digest(artifact_path: &str, files: &[pb::ModelFile]) -> String {
    if let [file] = files
        && file.path == artifact_path
    {
        return file.sha256.clone();
    }
    let mut hash = Sha256::new();
    for file in files {
        hash.update(format!("{}  {}\n", file.sha256, file.path));
    }
    hex::encode(hash.finalize())
}

/// A version was published: the run wrote the artifact, and a run of its own made the version from it.
pub(super) async fn published(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    names: &Names,
    run: &run::Model,
    version: &pb::ModelVersion,
    now: Timestamp,
) -> Result<()> {
    let artifact = names.artifact(
        run.id,
        &version.artifact_path,
        &digest(&version.artifact_path, &version.files),
    );
    let training = names.experiment(&run.experiment_at_creation);
    // A run that has ended does not run again; OTHER is for what becomes known later.
    let kind = if run.ended_at.is_none() {
        EventType::Running
    } else {
        EventType::Other
    };
    let wrote = RunEvent::new(kind, run.id, training.clone(), now).outputs(vec![artifact.clone()]);
    store::record(txn, scope, &wrote, now).await?;

    let id = Uuid::now_v7();
    let parameters = || {
        [
            ("model", version.model.clone()),
            ("version", version.version.to_string()),
            ("artifact_path", version.artifact_path.clone()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
    };
    let event = |kind| {
        RunEvent::new(kind, id, names.publish(&version.model), now)
            .parent(run.id, &training)
            .parameters(parameters())
            .inputs(vec![artifact.clone()])
    };
    let made: Dataset = names.model_version(&version.model, version.version);
    store::record(txn, scope, &event(EventType::Start), now).await?;
    store::record(
        txn,
        scope,
        &event(EventType::Complete).outputs(vec![made]),
        now,
    )
    .await
}

/// A version moved to another stage.
pub(super) async fn moved(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    names: &Names,
    request: &Move,
    from: Stage,
    now: Timestamp,
) -> Result<()> {
    let id = Uuid::now_v7();
    let mut parameters = vec![
        ("version", request.version.to_string()),
        ("from", from.to_string()),
        ("to", request.to.to_string()),
        ("by", scope.subject().to_owned()),
    ];
    if !request.comment.is_empty() {
        parameters.push(("comment", request.comment.clone()));
    }
    let version = names.model_version(&request.model, super::convert::to_u32(request.version));
    for kind in [EventType::Start, EventType::Complete] {
        let event = RunEvent::new(kind, id, names.transition(&request.model), now)
            .parameters(
                parameters
                    .iter()
                    .map(|(key, value)| ((*key).to_owned(), value.clone())),
            )
            .inputs(vec![version.clone()]);
        store::record(txn, scope, &event, now).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, sha256: &str) -> pb::ModelFile {
        pb::ModelFile {
            path: path.to_owned(),
            size_bytes: 1,
            sha256: sha256.to_owned(),
        }
    }

    #[test]
    fn a_file_has_its_own_digest_and_a_directory_that_of_its_list() {
        assert_eq!(digest("model.pkl", &[file("model.pkl", "ab")]), "ab");
        let one = digest("model", &[file("model/a", "ab")]);
        assert_eq!(one.len(), 64);
        assert_ne!(one, digest("model", &[file("model/b", "ab")]));
        assert_ne!(
            one,
            digest("model", &[file("model/a", "ab"), file("model/b", "ab")])
        );
    }
}
