//! The schema of the database, one file per change, in SQL that SQLite and PostgreSQL both take.
//!
//! Invariant: a migration that was released is never edited; change comes as a new one, first expanding, then (a release
//! later) contracting. All times are microseconds since 1970 in UTC, in columns that end in `_at`.

use sea_orm_migration::prelude::*;

mod m0001_core;
mod m0002_tracking;
mod m0003_features;
mod m0004_catalogue;
mod m0005_lineage;
mod m0006_branches;
mod m0007_runs;
mod m0008_artifacts;
mod m0009_revisions;
mod m0010_writer_branches;

/// All migrations in order.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_core::Migration),
            Box::new(m0002_tracking::Migration),
            Box::new(m0003_features::Migration),
            Box::new(m0004_catalogue::Migration),
            Box::new(m0005_lineage::Migration),
            Box::new(m0006_branches::Migration),
            Box::new(m0007_runs::Migration),
            Box::new(m0008_artifacts::Migration),
            Box::new(m0009_revisions::Migration),
            Box::new(m0010_writer_branches::Migration),
        ]
    }
}
