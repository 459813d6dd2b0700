//! What a new run finds: the run itself when the call is repeated, its parent, its experiment. One query asks for all of it.

use sea_orm::{
    Condition, ConnectionTrait, FromQueryResult,
    sea_query::{Expr, ExprTrait as _, JoinType, Query},
};
use uuid::Uuid;

use super::convert::NewRun;
use crate::{
    auth::Scope,
    error::{Error, Result},
    tracking::{
        entity::{experiment, run},
        experiments,
    },
};

/// What is there already of a run that is to be created.
#[derive(Debug, FromQueryResult)]
pub(super) struct Known {
    /// Project of the run of this id.
    run_project_id: Option<Uuid>,
    /// The parent, where it is in the project: deleted or not, for it may come back, and a journal must not lose the run for it.
    parent_id: Option<Uuid>,
    /// Name of its experiment when it was created.
    parent_experiment: Option<String>,
    experiment_id: Option<Uuid>,
    experiment_deleted_at: Option<i64>,
}

impl Known {
    /// Whether the run is there. An id is good for one run of the whole installation.
    pub(super) fn is_created(&self, scope: &Scope, new: &NewRun) -> Result<bool> {
        match self.run_project_id {
            Some(project_id) if project_id != scope.project_id() => {
                Err(Error::already_exists("run", new.id))
            }
            found => Ok(found.is_some()),
        }
    }

    /// The parent, if there is to be one: its id, and the experiment that it was created in.
    pub(super) fn parent(&self, new: &NewRun) -> Result<Option<(Uuid, &str)>> {
        match (new.parent_run_id, self.parent_id, &self.parent_experiment) {
            (None, ..) => Ok(None),
            (Some(_), Some(id), Some(experiment)) => Ok(Some((id, experiment))),
            (Some(id), ..) => Err(Error::not_found("run", id)),
        }
    }

    /// The experiment, if there is one and runs may go into it.
    pub(super) fn experiment(&self, new: &NewRun) -> Result<Option<Uuid>> {
        match self.experiment_deleted_at {
            Some(_) => Err(experiments::store::is_deleted(&new.experiment)),
            None => Ok(self.experiment_id),
        }
    }
}

/// What is there already of a run that is to be created, by one query.
pub(super) async fn find_known(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    new: &NewRun,
) -> Result<Known> {
    let of = |alias: &'static str, column: &'static str| Expr::col((alias, column));
    let project = || Expr::value(scope.project_id());
    let parent_id = new.parent_run_id.unwrap_or_default();
    let is_parent = Condition::all()
        .add(of("parent", "id").eq(parent_id))
        .add(of("parent", "project_id").eq(project()));
    let is_experiment = Condition::all()
        .add(of("experiment", "project_id").eq(project()))
        .add(of("experiment", "name").eq(new.experiment.as_str()));
    let one = Query::select().expr(Expr::value(1)).to_owned();
    let mut query = Query::select();
    query
        .expr_as(of("same", "project_id"), "run_project_id")
        .expr_as(of("parent", "id"), "parent_id")
        .expr_as(of("parent", "experiment_at_creation"), "parent_experiment")
        .expr_as(of("experiment", "id"), "experiment_id")
        .expr_as(of("experiment", "deleted_at"), "experiment_deleted_at")
        .from_subquery(one, "one")
        .join_as(
            JoinType::LeftJoin,
            run::Entity,
            "same",
            of("same", "id").eq(new.id),
        )
        .join_as(JoinType::LeftJoin, run::Entity, "parent", is_parent)
        .join_as(
            JoinType::LeftJoin,
            experiment::Entity,
            "experiment",
            is_experiment,
        );
    let row = conn.query_one(&query).await?;
    let row = row.ok_or_else(|| Error::not_found("run", new.id))?;
    Ok(Known::from_query_result(&row, "")?)
}
