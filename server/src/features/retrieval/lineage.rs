//! What a retrieval means for the lineage: a run from the views and their sources to the training set, and, where a run
//! asked for it, the training set as an input of that run.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::{
    auth::Scope,
    clock::Timestamp,
    error::Result,
    features::{
        Features,
        selection::Selection,
        sources::Session,
        store::{self, FeatureUse},
    },
    lineage::{self, Dataset, EventType, Names, RunEvent},
};

/// One retrieval.
#[derive(Debug)]
pub(super) struct Retrieval {
    pub(super) id: Uuid,
    pub(super) training_set: String,
    pub(super) run_id: Option<Uuid>,
    pub(super) started_at: Timestamp,
}

/// The sources that a session read, each with a digest of its files.
pub(in crate::features) fn source_datasets(names: &Names, session: &Session) -> Vec<Dataset> {
    let files = session.pins().digests().map(|(source, uri, digest)| {
        names
            .file_source(uri, Some(&digest))
            .also_known_as(&names.sql_source(source, None))
    });
    let queries = session.sql_sources().iter().map(|source| {
        let info = session.catalog().sources.get(source);
        let info = info.and_then(|source| source.info.as_ref());
        let version = info.map(|info| info.version.to_string());
        names.sql_source(source, version.as_deref())
    });
    files.chain(queries).collect()
}

/// What is recorded, worked out before the session ends.
pub(super) struct Record {
    inputs: Vec<Dataset>,
    uses: Vec<FeatureUse>,
}

impl Record {
    /// What a retrieval read.
    pub(super) fn of(
        names: &Names,
        retrieval: &Retrieval,
        selection: &Selection,
        session: &Session,
    ) -> Self {
        let mut read: BTreeMap<(String, u32), Vec<String>> = BTreeMap::new();
        let joins = selection.joins.iter().map(|join| {
            let name = join.view.definition.name.clone();
            ((name, join.view.version()), &join.features)
        });
        let computed = selection.computed.iter().map(|computed| {
            (
                (computed.name.clone(), computed.version),
                &computed.features,
            )
        });
        for (view, features) in joins.chain(computed) {
            let known = read.entry(view).or_default();
            for feature in features {
                if !known.contains(feature) {
                    known.push(feature.clone());
                }
            }
        }
        let views = read
            .keys()
            .map(|(view, version)| names.feature_view(view, *version));
        let inputs = views.chain(source_datasets(names, session)).collect();
        let uses = read
            .into_iter()
            .map(|((view, version), features)| FeatureUse {
                retrieval_id: retrieval.id,
                feature_view: view,
                view_version: version,
                features,
                training_set: retrieval.training_set.clone(),
                read_at: retrieval.started_at,
            });
        Self {
            uses: uses.collect(),
            inputs,
        }
    }

    /// Stores events and uses in one transaction.
    pub(super) async fn store(
        self,
        features: &Features,
        scope: &Scope,
        names: &Names,
        retrieval: &Retrieval,
    ) -> Result<()> {
        let app = &features.app;
        let txn = app.db.begin().await?;
        let now = app.now();
        let parent = match retrieval.run_id {
            Some(run_id) => {
                let experiment = store::experiment_of_run(&txn, scope, run_id).await?;
                Some((run_id, names.experiment(&experiment)))
            }
            None => None,
        };
        let training_set = names
            .training_set(&retrieval.training_set)
            .at_version(retrieval.id.to_string());
        for (event_type, at) in [
            (EventType::Start, retrieval.started_at),
            (EventType::Complete, now),
        ] {
            let mut event =
                RunEvent::new(event_type, retrieval.id, names.historical_features(), at)
                    .inputs(self.inputs.clone())
                    .outputs(vec![training_set.clone()]);
            if let Some((run_id, job)) = &parent {
                event = event.parent(*run_id, job);
            }
            lineage::store::record(&txn, scope, &event, now).await?;
        }
        if let Some((run_id, job)) = parent {
            let event =
                RunEvent::new(EventType::Running, run_id, job, now).inputs(vec![training_set]);
            lineage::store::record(&txn, scope, &event, now).await?;
        }
        store::insert_uses(&txn, scope, retrieval.run_id, self.uses).await?;
        txn.commit().await?;
        Ok(())
    }
}
