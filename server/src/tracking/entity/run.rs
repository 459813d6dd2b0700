//! Table `runs`: executions that are tracked.
#![allow(
    missing_docs,
    reason = "the columns are described in the contract and in the migration"
)]

use sea_orm::{
    ActiveValue, UpdateMany,
    entity::prelude::{async_trait::async_trait, *},
    sea_query::{Expr, ExprTrait as _},
};

/// Where a run is in its life, under the names that filters use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(16))")]
pub enum Status {
    #[sea_orm(string_value = "RUNNING")]
    Running,
    #[sea_orm(string_value = "FINISHED")]
    Finished,
    #[sea_orm(string_value = "FAILED")]
    Failed,
    #[sea_orm(string_value = "KILLED")]
    Killed,
    #[sea_orm(string_value = "CRASHED")]
    Crashed,
}

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "runs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub project_id: Uuid,
    pub experiment_id: Uuid,
    /// Name of the experiment when the run was created: part of the name of its lineage job.
    pub experiment_at_creation: String,
    pub name: String,
    pub parent_run_id: Option<Uuid>,
    pub status: Status,
    pub status_message: String,
    pub description: String,
    pub started_at: i64,
    pub ended_at: Option<i64>,
    pub created_at: i64,
    pub updated_at: i64,
    pub created_by: String,
    pub deleted_at: Option<i64>,
    /// When its process was last heard of; null for a run whose process sends no heartbeats.
    pub heartbeat_at: Option<i64>,
    /// Number of the branch that is logged to.
    pub branch: i32,
    /// Time of the last event that told of a crash or a resumption; later events of the run are dated after it.
    pub lineage_at: Option<i64>,
    /// Grows with every change of the run, its params, tags, metrics, inputs and branches. It begins with the time of creation,
    /// so that a run which takes the id of one that was removed does not go through its revisions again.
    pub revision: i64,
    /// The writing process that began the run or took it up last; null where that is not known.
    pub writer_id: Option<Uuid>,
    /// When that was, by the clock of the server; null where it was told late, for clocks of clients may be set back.
    pub taken_up_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

#[async_trait]
impl ActiveModelBehavior for ActiveModel {
    /// An update makes a new revision. The run is locked.
    async fn before_save<C>(mut self, _: &C, insert: bool) -> Result<Self, DbErr>
    where
        C: ConnectionTrait,
    {
        if let (false, ActiveValue::Unchanged(revision)) = (insert, &self.revision) {
            self.revision = ActiveValue::Set(revision + 1);
        }
        Ok(self)
    }
}

impl Entity {
    /// Changes runs, or notes that something below them has changed: makes new revisions. Nothing else updates runs.
    pub fn revise() -> UpdateMany<Self> {
        Self::update_many().col_expr(Column::Revision, Expr::col(Column::Revision).add(1))
    }
}
