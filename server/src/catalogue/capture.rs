//! What a version captures of its run when it is published: files, params, last metrics, features.
//!
//! Invariant: all of it is read in the transaction that publishes, so it is the state of one moment.

use std::collections::{BTreeMap, BTreeSet};

use mlplat_proto::catalogue::v1 as pb;
use sea_orm::ConnectionTrait;

use crate::{
    auth::Scope,
    error::{Error, Result},
    features::store::{self as features, FeatureUse},
    tracking::{entity::run, store as tracking},
};

/// Metrics of this prefix say how the machine was, and nothing of the model.
const OF_THE_MACHINE: &str = "system/";

/// What the locked run and its files at this path are now. There must be at least one file.
pub(super) async fn capture(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    run: &run::Model,
    artifact_path: &str,
) -> Result<pb::ModelVersion> {
    let files = tracking::artifacts_under(txn, scope, run, artifact_path).await?;
    if files.is_empty() {
        return Err(Error::not_found("artifact", artifact_path));
    }
    let params = tracking::load_params(txn, scope, run).await?;
    let metrics = tracking::load_last_metrics(txn, scope, run).await?;
    let uses = features::uses_of_run(txn, scope, run.id).await?;
    Ok(pb::ModelVersion {
        files: files
            .into_iter()
            .map(|file| pb::ModelFile {
                path: file.path,
                size_bytes: u64::try_from(file.size_bytes).unwrap_or_default(),
                sha256: file.sha256,
            })
            .collect(),
        params: params.into_iter().collect(),
        metrics: metrics
            .into_iter()
            .filter(|(key, _)| !key.starts_with(OF_THE_MACHINE))
            .collect(),
        feature_views: merge(uses),
        ..pb::ModelVersion::default()
    })
}

/// One use per view, version and training set, however many retrievals there were.
fn merge(uses: Vec<FeatureUse>) -> Vec<pb::FeatureViewUse> {
    let mut merged: BTreeMap<(String, u32, String), BTreeSet<String>> = BTreeMap::new();
    for read in uses {
        let key = (read.feature_view, read.view_version, read.training_set);
        merged.entry(key).or_default().extend(read.features);
    }
    merged
        .into_iter()
        .map(
            |((feature_view, version, training_set), features)| pb::FeatureViewUse {
                feature_view,
                version,
                features: features.into_iter().collect(),
                training_set,
            },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn several_retrievals_into_one_training_set_are_one_use() {
        let read = |view: &str, version, features: &[&str]| FeatureUse {
            retrieval_id: Uuid::now_v7(),
            feature_view: view.to_owned(),
            view_version: version,
            features: features.iter().map(ToString::to_string).collect(),
            training_set: "delays".to_owned(),
            read_at: Timestamp(1),
        };
        let merged = merge(vec![
            read("weather", 1, &["temp"]),
            read("busy", 1, &["n"]),
            read("weather", 1, &["wind", "temp"]),
            read("weather", 2, &["temp"]),
        ]);
        let shown: Vec<(&str, u32, String)> = merged
            .iter()
            .map(|u| (u.feature_view.as_str(), u.version, u.features.join(",")))
            .collect();
        assert_eq!(
            shown,
            [
                ("busy", 1, "n".to_owned()),
                ("weather", 1, "temp,wind".to_owned()),
                ("weather", 2, "temp".to_owned()),
            ]
        );
    }
}
