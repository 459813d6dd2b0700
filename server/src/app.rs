//! What every service has at hand.
//!
//! Invariant: nothing that a client was told is committed lives here only.

use std::{fs::File, sync::Arc};

use anyhow::Context as _;
use moka::future::Cache;
use sea_orm::{ActiveValue::Set, EntityTrait as _, sea_query::OnConflict};
use uuid::Uuid;

use crate::{
    admin::entity::{project, setting},
    clock::{Clock, Timestamp},
    config::{Config, masked_url},
    db::Db,
    objects::Objects,
    request::DEFAULT_PROJECT,
    tracking::{RecentRuns, RecentSurveys},
};

/// Projects whose ids are kept in memory.
const PROJECTS: u64 = 10_000;

/// The database, the objects, the clock, the settings.
#[derive(Debug)]
pub struct App {
    /// The database.
    pub db: Db,
    /// The bytes of artifacts.
    pub objects: Objects,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The settings.
    pub config: Arc<Config>,
    /// Name of this installation in OpenLineage namespaces.
    pub instance: String,
    /// Runs that were read before.
    pub(crate) recent_runs: RecentRuns,
    /// What was found out for searches of the last seconds.
    pub(crate) recent_surveys: RecentSurveys,
    /// Ids of projects by name: both stay for as long as the installation does.
    pub(crate) project_ids: Cache<String, Uuid>,
    /// Held while the server lives, so that no second one works on the same folder.
    _data_dir_lock: File,
}

impl App {
    /// Opens everything that the settings name; migrates the database.
    pub async fn open(config: Config, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&config.data_dir).with_context(|| {
            format!(
                "the data folder {} cannot be made",
                config.data_dir.display()
            )
        })?;
        let lock = lock_data_dir(&config)?;
        let url = match &config.database_url {
            Some(url) => url.clone(),
            None => Db::sqlite_url(&config.data_dir.join("mlplat.db"))?,
        };
        let db = Db::open(&url, config.limits.database_connections)
            .await
            .with_context(|| format!("the database {} cannot be opened", masked_url(&url)))?;
        let objects = Objects::open(&config)
            .await
            .context("the artifact root cannot be opened")?;
        let now = clock.now();
        ensure_default_project(&db, now).await?;
        let instance = instance_name(&db, config.instance.as_deref()).await?;
        Ok(Self {
            db,
            objects,
            clock,
            config: Arc::new(config),
            instance,
            recent_runs: RecentRuns::default(),
            recent_surveys: RecentSurveys::default(),
            project_ids: Cache::new(PROJECTS),
            _data_dir_lock: lock,
        })
    }

    /// The present.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

fn lock_data_dir(config: &Config) -> anyhow::Result<File> {
    let path = config.data_dir.join("mlplat.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => anyhow::bail!(
            "another mlplat-server works on the data folder {}; stop it, or choose another folder with --data-dir",
            config.data_dir.display()
        ),
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).context("the data folder cannot be locked")
        }
    }
}

async fn ensure_default_project(db: &Db, now: Timestamp) -> anyhow::Result<()> {
    let txn = db.begin().await?;
    let row = project::ActiveModel {
        id: Set(Uuid::now_v7()),
        name: Set(DEFAULT_PROJECT.to_owned()),
        description: Set("Where everything goes that names no other project.".to_owned()),
        tags: Set("{}".to_owned()),
        created_at: Set(now.micros()),
        updated_at: Set(now.micros()),
        created_by: Set("mlplat-server".to_owned()),
    };
    project::Entity::insert(row)
        .on_conflict(
            OnConflict::column(project::Column::Name)
                .do_nothing()
                .to_owned(),
        )
        .exec_without_returning(&txn)
        .await?;
    txn.commit().await?;
    Ok(())
}

/// The instance name of the first start stays, so that lineage names do not change under replicas or after a move.
async fn instance_name(db: &Db, configured: Option<&str>) -> anyhow::Result<String> {
    const KEY: &str = "instance";
    let wanted = configured.unwrap_or("local");
    anyhow::ensure!(
        !wanted.is_empty()
            && wanted
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)),
        "instance must be made of letters, digits, `-`, `_` and `.`"
    );
    let txn = db.begin().await?;
    let row = setting::ActiveModel {
        key: Set(KEY.to_owned()),
        value: Set(wanted.to_owned()),
    };
    setting::Entity::insert(row)
        .on_conflict(
            OnConflict::column(setting::Column::Key)
                .do_nothing()
                .to_owned(),
        )
        .exec_without_returning(&txn)
        .await?;
    txn.commit().await?;
    let stored = setting::Entity::find_by_id(KEY)
        .one(db.read())
        .await?
        .context("the instance name is missing")?
        .value;
    if configured.is_some() && stored != wanted {
        tracing::warn!(
            stored,
            configured = wanted,
            "this installation was named at its first start; the setting is ignored"
        );
    }
    Ok(stored)
}
