//! What the catalogue knows of models, as plain data, and the requests that name it.

use std::{collections::BTreeMap, fmt, str::FromStr, time::SystemTime};

use mlplat_proto::catalogue::v1 as pb;

use crate::{
    artifacts::OnProgress,
    convert::filled_time,
    error::{Error, Result},
};

/// Where a model version is in its life: DEVELOPMENT <-> STAGING <-> PRODUCTION; each may go to ARCHIVED, and ARCHIVED back
/// to DEVELOPMENT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ModelStage {
    /// Published; being worked on.
    Development,
    /// Being tested for production.
    Staging,
    /// Serves.
    Production,
    /// Out of use, kept for the record.
    Archived,
}

impl ModelStage {
    /// Upper-case name: `DEVELOPMENT`, `STAGING`, `PRODUCTION`, `ARCHIVED`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Development => "DEVELOPMENT",
            Self::Staging => "STAGING",
            Self::Production => "PRODUCTION",
            Self::Archived => "ARCHIVED",
        }
    }
}

impl fmt::Display for ModelStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ModelStage {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let all = [
            Self::Development,
            Self::Staging,
            Self::Production,
            Self::Archived,
        ];
        all.into_iter().find(|stage| stage.as_str().eq_ignore_ascii_case(text)).ok_or_else(|| {
            Error::misuse(format!("`{text}` is not a stage; there are development, staging, production and archived"))
        })
    }
}

impl From<ModelStage> for pb::ModelStage {
    fn from(stage: ModelStage) -> Self {
        match stage {
            ModelStage::Development => Self::Development,
            ModelStage::Staging => Self::Staging,
            ModelStage::Production => Self::Production,
            ModelStage::Archived => Self::Archived,
        }
    }
}

impl From<pb::ModelStage> for ModelStage {
    fn from(stage: pb::ModelStage) -> Self {
        match stage {
            pb::ModelStage::Development | pb::ModelStage::Unspecified => Self::Development,
            pb::ModelStage::Staging => Self::Staging,
            pb::ModelStage::Production => Self::Production,
            pb::ModelStage::Archived => Self::Archived,
        }
    }
}

/// A model under one name, with its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegisteredModel {
    /// Name, unique in the project.
    pub name: String,
    /// Notes.
    pub description: String,
    /// Free labels.
    pub tags: BTreeMap<String, String>,
    /// Alias -> version number.
    pub aliases: BTreeMap<String, u32>,
    /// Number of the newest version; 0 where there is none.
    pub latest_version: u32,
    /// When it was created.
    pub created_at: SystemTime,
    /// When it was last changed.
    pub updated_at: SystemTime,
    /// Who created it.
    pub created_by: String,
}

impl From<pb::RegisteredModel> for RegisteredModel {
    fn from(m: pb::RegisteredModel) -> Self {
        Self {
            name: m.name,
            description: m.description,
            tags: m.tags.into_iter().collect(),
            aliases: m.aliases.into_iter().collect(),
            latest_version: m.latest_version,
            created_at: filled_time(m.created_at),
            updated_at: filled_time(m.updated_at),
            created_by: m.created_by,
        }
    }
}

/// One file of a model version.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelFile {
    /// Path inside the run.
    pub path: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the content, 64 hexadecimal digits.
    pub sha256: String,
}

/// A feature view that the run of a model version read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeatureViewUse {
    /// Name of the feature view.
    pub feature_view: String,
    /// Its version.
    pub version: u32,
    /// The features that were read.
    pub features: Vec<String>,
    /// The training set it was read into.
    pub training_set: String,
}

/// One published version of a model; what it captured never changes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ModelVersion {
    /// Name of the model.
    pub model: String,
    /// Number, counted from 1.
    pub version: u32,
    /// Where it is in its life.
    pub stage: ModelStage,
    /// Run that made it.
    pub run_id: String,
    /// Path of the file or directory in the run.
    pub artifact_path: String,
    /// Its files, by path.
    pub files: Vec<ModelFile>,
    /// Params of the run.
    pub params: BTreeMap<String, String>,
    /// Last metric values of the run.
    pub metrics: BTreeMap<String, f64>,
    /// Features that the run read.
    pub feature_views: Vec<FeatureViewUse>,
    /// Notes.
    pub description: String,
    /// Free labels.
    pub tags: BTreeMap<String, String>,
    /// Aliases that point at it.
    pub aliases: Vec<String>,
    /// When it was published.
    pub created_at: SystemTime,
    /// When its stage, notes or labels were last changed.
    pub updated_at: SystemTime,
    /// Who published it.
    pub created_by: String,
}

impl From<pb::ModelVersion> for ModelVersion {
    fn from(v: pb::ModelVersion) -> Self {
        let file = |f: pb::ModelFile| ModelFile {
            path: f.path,
            size_bytes: f.size_bytes,
            sha256: f.sha256,
        };
        let view = |u: pb::FeatureViewUse| FeatureViewUse {
            feature_view: u.feature_view,
            version: u.version,
            features: u.features,
            training_set: u.training_set,
        };
        Self {
            stage: v.stage().into(),
            model: v.model,
            version: v.version,
            run_id: v.run_id,
            artifact_path: v.artifact_path,
            files: v.files.into_iter().map(file).collect(),
            params: v.params.into_iter().collect(),
            metrics: v.metrics.into_iter().collect(),
            feature_views: v.feature_views.into_iter().map(view).collect(),
            description: v.description,
            tags: v.tags.into_iter().collect(),
            aliases: v.aliases,
            created_at: filled_time(v.created_at),
            updated_at: filled_time(v.updated_at),
            created_by: v.created_by,
        }
    }
}

/// A model version to publish.
#[derive(Debug, Clone)]
#[must_use]
pub struct NewModelVersion {
    pub(super) model: String,
    pub(super) run_id: String,
    pub(super) description: String,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) progress: OnProgress,
}

impl NewModelVersion {
    /// The next version of `model`, made by a run.
    pub fn new(model: impl Into<String>, run_id: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            run_id: run_id.into(),
            description: String::new(),
            tags: BTreeMap::new(),
            progress: OnProgress::default(),
        }
    }

    /// Notes.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = text.into();
        self
    }

    /// Adds a label.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(key.into(), value.into());
        self
    }

    /// Who is told about the progress of an upload.
    pub fn progress(mut self, progress: OnProgress) -> Self {
        self.progress = progress;
        self
    }
}

/// Which version of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionSelector {
    /// The newest.
    Latest,
    /// By number.
    Number(u32),
    /// The one that an alias such as `champion` points at.
    Alias(String),
}

impl From<u32> for VersionSelector {
    fn from(number: u32) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for VersionSelector {
    /// A number, `latest`, or an alias.
    fn from(text: &str) -> Self {
        match text.parse() {
            Ok(number) => Self::Number(number),
            Err(_) if text == "latest" => Self::Latest,
            Err(_) => Self::Alias(text.to_owned()),
        }
    }
}
