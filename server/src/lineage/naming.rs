//! What jobs and datasets are called in OpenLineage.
//!
//! Invariant: one thing has one name, whoever writes the event; only this file spells names out. Pure.

use std::borrow::Cow;

use uuid::Uuid;

/// A job: what a run is a run of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Job {
    pub(super) namespace: String,
    pub(super) name: String,
    /// `jobType` of the facet of the same name.
    pub(super) job_type: &'static str,
}

impl Job {
    /// OpenLineage name, unique in its namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A dataset, in one version where that is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Dataset {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) dataset_type: &'static str,
    /// Empty where it is not known.
    pub(super) version: String,
    /// Another name of it: namespace and name.
    pub(super) symlink: Option<(String, String)>,
    /// Its columns where they are known: name and type.
    pub(super) fields: Vec<[String; 2]>,
}

impl Dataset {
    fn new(
        namespace: impl Into<String>,
        name: impl Into<String>,
        dataset_type: &'static str,
    ) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            dataset_type,
            version: String::new(),
            symlink: None,
            fields: Vec::new(),
        }
    }

    /// OpenLineage name, unique in its namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same dataset in this version.
    #[must_use]
    pub fn at_version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// The same dataset with these columns (the `schema` facet): name and type of each.
    #[must_use]
    pub fn with_schema(mut self, fields: Vec<[String; 2]>) -> Self {
        self.fields = fields;
        self
    }

    /// Says that `other` is another name of this dataset (the `symlinks` facet), by which it is found as well.
    #[must_use]
    pub fn also_known_as(mut self, other: &Dataset) -> Self {
        if (&other.namespace, &other.name) != (&self.namespace, &self.name) {
            self.symlink = Some((other.namespace.clone(), other.name.clone()));
        }
        self
    }
}

/// The names of one project.
#[derive(Debug, Clone)]
pub struct Names {
    namespace: String,
}

impl Names {
    /// Names of `project` on the installation called `instance`.
    pub fn new(instance: &str, project: &str) -> Self {
        Self {
            namespace: format!("mlplat://{instance}/{project}"),
        }
    }

    /// OpenLineage namespace of the jobs and datasets of the project.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    fn job(&self, name: String, job_type: &'static str) -> Job {
        Job {
            namespace: self.namespace.clone(),
            name,
            job_type,
        }
    }

    fn dataset(&self, name: String, dataset_type: &'static str) -> Dataset {
        Dataset::new(self.namespace.clone(), name, dataset_type)
    }

    /// Training: its runs are those of the experiment.
    pub fn experiment(&self, name: &str) -> Job {
        self.job(format!("experiments/{name}"), "EXPERIMENT")
    }

    /// The definition of a feature view.
    pub fn apply(&self, view: &str) -> Job {
        self.job(format!("apply/{view}"), "APPLY")
    }

    /// Historical retrieval.
    pub fn historical_features(&self) -> Job {
        self.job("historical_features".to_owned(), "HISTORICAL_FEATURES")
    }

    /// Materialization of a feature view into the online store.
    pub fn materialize(&self, view: &str) -> Job {
        self.job(format!("materialize/{view}"), "MATERIALIZE")
    }

    /// Publishing of versions of a model.
    pub fn publish(&self, model: &str) -> Job {
        self.job(format!("publish/{model}"), "PUBLISH")
    }

    /// Moves of the versions of a model through their life.
    pub fn transition(&self, model: &str) -> Job {
        self.job(format!("transition/{model}"), "TRANSITION")
    }

    /// A feature view.
    pub fn feature_view(&self, view: &str, version: u32) -> Dataset {
        self.feature_view_name(view).at_version(version.to_string())
    }

    pub(super) fn feature_view_name(&self, view: &str) -> Dataset {
        self.dataset(format!("feature_views/{view}"), "FEATURE_VIEW")
    }

    /// The rows of a feature view in the online store.
    pub fn online(&self, view: &str) -> Dataset {
        self.dataset(format!("online/{view}"), "ONLINE_FEATURES")
    }

    /// The result of a historical retrieval; [`Dataset::at_version`] with the id of the retrieval tells those of one
    /// name apart.
    pub fn training_set(&self, name: &str) -> Dataset {
        self.dataset(format!("training_sets/{name}"), "TRAINING_SET")
    }

    /// Data that a run read, which has no other name than the one that the run gave it.
    pub fn dataset_input(&self, name: &str) -> Dataset {
        self.dataset(format!("datasets/{name}"), "DATASET")
    }

    /// A file or directory of a run; the version is the digest of its content.
    pub fn artifact(&self, run_id: Uuid, path: &str, digest: &str) -> Dataset {
        self.dataset(format!("runs/{run_id}/artifacts/{path}"), "ARTIFACT")
            .at_version(digest)
    }

    /// A version of a model.
    pub fn model_version(&self, model: &str, version: u32) -> Dataset {
        self.dataset(format!("models/{model}"), "MODEL")
            .at_version(version.to_string())
    }

    /// A source of the project that is a query.
    pub fn sql_source(&self, source: &str, version: Option<&str>) -> Dataset {
        self.source_name(source)
            .at_version(version.unwrap_or_default())
    }

    pub(super) fn source_name(&self, source: &str) -> Dataset {
        self.dataset(format!("sources/{source}"), "SOURCE")
    }

    /// Files by path or URI, which may be a glob: namespace `file` with the absolute path, or `s3://bucket` with the
    /// key. The version is a digest of what they hold, where that is known.
    pub fn file_source(&self, uri: &str, digest: Option<&str>) -> Dataset {
        let (namespace, name) = split_uri(uri);
        Dataset::new(namespace, name, "FILE").at_version(digest.unwrap_or_default())
    }
}

/// OpenLineage namespace and name of a file, as the naming conventions of OpenLineage have them.
fn split_uri(uri: &str) -> (Cow<'static, str>, &str) {
    let Some((scheme, rest)) = uri.split_once("://") else {
        return (Cow::Borrowed("file"), uri);
    };
    if scheme == "file" {
        return (Cow::Borrowed("file"), rest);
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    (Cow::Owned(format!("{scheme}://{authority}")), path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(dataset: &Dataset) -> (&str, &str, &str) {
        (&dataset.namespace, &dataset.name, &dataset.version)
    }

    #[test]
    fn files_are_named_as_openlineage_says() {
        let names = Names::new("laptop", "default");
        let of = |uri| names.file_source(uri, Some("d1"));
        for (uri, namespace, name) in [
            ("/data/weather.parquet", "file", "/data/weather.parquet"),
            ("file:///data/w/*.parquet", "file", "/data/w/*.parquet"),
            (
                "s3://lake/raw/2013/*.parquet",
                "s3://lake",
                "raw/2013/*.parquet",
            ),
            ("s3://lake", "s3://lake", ""),
        ] {
            assert_eq!(named(&of(uri)), (namespace, name, "d1"));
        }
        assert_eq!(names.file_source("/x", None).version, "");
    }

    #[test]
    fn things_of_the_project_live_in_its_namespace() {
        let names = Names::new("laptop", "ads");
        let run = Uuid::from_u128(7);
        assert_eq!(
            named(&names.artifact(run, "model/a.bin", "d")),
            (
                "mlplat://laptop/ads",
                "runs/00000000-0000-0000-0000-000000000007/artifacts/model/a.bin",
                "d"
            )
        );
        assert_eq!(
            named(&names.feature_view("weather", 3)),
            ("mlplat://laptop/ads", "feature_views/weather", "3")
        );
        assert_eq!(
            named(&names.model_version("delay", 2)),
            ("mlplat://laptop/ads", "models/delay", "2")
        );
        assert_eq!(names.experiment("delays").name, "experiments/delays");
    }

    #[test]
    fn a_source_is_another_name_of_its_file_but_not_of_itself() {
        let names = Names::new("laptop", "default");
        let source = names.sql_source("weather", None);
        let file = names.file_source("/w.parquet", None);
        let symlink = file.also_known_as(&source).symlink.unwrap();
        assert_eq!(symlink.1, "sources/weather");
        assert_eq!(source.clone().also_known_as(&source).symlink, None);
    }
}
