//! Apply: brings the definitions of a project to what a request says.
//!
//! The slow part (reading schemas) comes first, outside of any transaction, against the catalog as it was read. The
//! transaction then begins by reading it again: when somebody else was faster, everything is planned anew.

use std::{collections::BTreeSet, sync::Arc};

use mlplat_proto::features::v1 as pb;
use sea_orm::{ConnectionTrait, DatabaseTransaction};

use super::{
    Catalog, Definition, View,
    check::{self, Requested},
    compatibility,
    diff::{self, Flatten},
    lineage::{inputs_of, record_applied},
    plan::Plan,
    resolve, store,
};
use crate::{
    auth::{Action, Caller, Scope},
    clock::Timestamp,
    error::{Error, Result},
    features::Features,
    idempotency,
    lineage::Names,
    request::{Violations, project_name},
};

const METHOD: &str = "Apply";
/// How often somebody else may be faster.
const ATTEMPTS: usize = 5;

/// Handles the request.
pub(in crate::features) async fn apply(
    features: &Arc<Features>,
    caller: &Caller,
    request: pb::ApplyRequest,
) -> Result<pb::ApplyResponse> {
    let mut violations = Violations::new();
    let key = idempotency::key(&mut violations, &request.request_id);
    let requested = Arc::new(check::check(&request, &mut violations));
    violations.finish()?;
    let app = &features.app;
    let scope = caller
        .authorize(app, Action::DefineFeatures, &project_name(&request.project))
        .await?;
    if let Some(response) =
        idempotency::replay(app.db.read(), &scope, METHOD, key, &request).await?
    {
        return Ok(response);
    }
    for _ in 0..ATTEMPTS {
        let current = store::load(app.db.read(), &scope).await?;
        let plan = plan(features, current, &requested, request.prune).await?;
        let now = app.now();
        if request.dry_run {
            if !request.force {
                compatibility::check(app.db.read(), &scope, &plan.current, &plan.desired).await?;
            }
            return Ok(pb::ApplyResponse {
                changes: changes(&plan),
            });
        }
        let txn = app.db.begin().await?;
        store::lock(&txn, &scope).await?;
        if let Some(response) = idempotency::replay(&txn, &scope, METHOD, key, &request).await? {
            return Ok(response);
        }
        if store::load(&txn, &scope).await? != *plan.current {
            txn.rollback().await?;
            continue;
        }
        if !request.force {
            compatibility::check(&txn, &scope, &plan.current, &plan.desired).await?;
        }
        let names = Names::new(&app.instance, scope.project());
        write_all(&txn, &scope, &names, &plan, now).await?;
        let response = pb::ApplyResponse {
            changes: changes(&plan),
        };
        idempotency::remember(&txn, &scope, METHOD, key, &request, &response, now).await?;
        txn.commit().await?;
        return Ok(response);
    }
    Err(Error::Aborted {
        reason: "CONFLICT",
        message: "others keep changing the definitions of this project; try again".to_owned(),
    })
}

/// Plans on the query threads, for schemas of many files take a while.
async fn plan(
    features: &Arc<Features>,
    current: Catalog,
    requested: &Arc<Requested>,
    prune: bool,
) -> Result<Plan> {
    let (shared, requested) = (features.clone(), requested.clone());
    let work = async move {
        let mut violations = Violations::new();
        let mut plan = Plan::make(Arc::new(current), &requested, prune, &mut violations);
        violations.finish()?;
        let mut session = shared.session(Arc::new(plan.desired.clone()))?;
        resolve::resolve(&mut plan, &requested, &mut session, Violations::new()).await?;
        Ok(plan)
    };
    features.query(work).await
}

/// The difference, in the order in which it is made: what others rest on first, and goes last.
fn changes(plan: &Plan) -> Vec<pb::Change> {
    let mut made = Vec::new();
    made.extend(changes_of::<pb::Entity>(plan));
    made.extend(changes_of::<pb::Source>(plan));
    made.extend(changes_of::<View>(plan));
    made.extend(changes_of::<pb::OnDemandFeatureView>(plan));
    made.extend(changes_of::<pb::FeatureService>(plan));
    let mut removed = Vec::new();
    removed.extend(removals_of::<pb::FeatureService>(plan));
    removed.extend(removals_of::<pb::OnDemandFeatureView>(plan));
    removed.extend(removals_of::<View>(plan));
    removed.extend(removals_of::<pb::Source>(plan));
    removed.extend(removals_of::<pb::Entity>(plan));
    made.extend(removed.into_iter().map(|(kind, name)| pb::Change {
        kind: kind.into(),
        name,
        action: pb::ChangeAction::Delete.into(),
        fields: Vec::new(),
    }));
    made
}

fn changes_of<D: Definition + Flatten>(plan: &Plan) -> Vec<pb::Change> {
    let mut changes = Vec::new();
    for (name, after) in D::of(&plan.desired) {
        let before = D::of(&plan.current).get(name);
        let (action, fields) = match before {
            None => (pb::ChangeAction::Create, Vec::new()),
            Some(before) if differs(before, after) => {
                (pb::ChangeAction::Update, diff::changes(before, after))
            }
            Some(_) => (pb::ChangeAction::Unchanged, Vec::new()),
        };
        let named = plan.named.contains(&(D::KIND.into(), name.clone()));
        if named || action != pb::ChangeAction::Unchanged {
            changes.push(pb::Change {
                kind: D::KIND.into(),
                name: name.clone(),
                action: action.into(),
                fields,
            });
        }
    }
    changes
}

fn removals_of<D: Definition>(plan: &Plan) -> Vec<(pb::DefinitionKind, String)> {
    let after: BTreeSet<&String> = D::of(&plan.desired).keys().collect();
    let gone = D::of(&plan.current)
        .keys()
        .filter(|name| !after.contains(name));
    gone.map(|name| (D::KIND, name.clone())).collect()
}

fn differs<D: Definition>(before: &D, after: &D) -> bool {
    before.unversioned() != after.unversioned()
}

async fn write_all(
    txn: &DatabaseTransaction,
    scope: &Scope,
    names: &Names,
    plan: &Plan,
    now: Timestamp,
) -> Result<()> {
    write::<pb::Entity>(txn, scope, plan, now).await?;
    write::<pb::Source>(txn, scope, plan, now).await?;
    let views = write::<View>(txn, scope, plan, now).await?;
    let computed = write::<pb::OnDemandFeatureView>(txn, scope, plan, now).await?;
    write::<pb::FeatureService>(txn, scope, plan, now).await?;
    if views.is_empty() && computed.is_empty() {
        return Ok(());
    }
    let written = store::load(txn, scope).await?;
    for (name, version) in views.iter().chain(&computed) {
        let inputs = inputs_of(names, &written, &plan.found, name);
        record_applied(txn, scope, names, inputs, (name, *version), now).await?;
    }
    Ok(())
}

/// Writes what changed of one kind, and returns the new versions.
async fn write<D: Definition>(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    plan: &Plan,
    now: Timestamp,
) -> Result<Vec<(String, u32)>> {
    let mut versions = Vec::new();
    for (name, after) in D::of(&plan.desired) {
        let before = D::of(&plan.current).get(name);
        if before.is_none_or(|before| differs(before, after)) {
            let version = store::insert(connection, scope, after, now).await?;
            versions.push((name.clone(), version));
        }
    }
    for (_, name) in removals_of::<D>(plan) {
        store::retire::<D>(connection, scope, &name).await?;
    }
    Ok(versions)
}
