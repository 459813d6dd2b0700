//! Materialization: the newest row per key of a view, from its source into the online store.
//!
//! Invariant: it streams in bounded memory and can be cut off anywhere and repeated, for an older row never replaces a newer
//! one. The watermark and the lineage are stored together, once everything is written.

mod view;

use std::sync::Arc;

use mlplat_proto::features::v1 as pb;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    Features,
    definitions::{Catalog, View, store as definitions},
    instant::{self, Window},
    online::not_online,
    runtime::TaskStream,
    store,
};
use crate::{
    auth::{Action, Caller, Scope},
    error::{Error, Result},
    request::{self, Violations, project_name},
};

/// Reports made ahead of the network.
const AHEAD: usize = 16;

/// What is to be done.
struct Work {
    features: Arc<Features>,
    scope: Scope,
    catalog: Arc<Catalog>,
    views: Vec<View>,
    window: Window,
    run: Option<(Uuid, String)>,
}

/// Handles the request: checks everything, then works behind the stream.
pub(super) async fn materialize(
    features: &Arc<Features>,
    caller: &Caller,
    request: pb::MaterializeRequest,
) -> Result<TaskStream<pb::MaterializeResponse>> {
    let mut violations = Violations::new();
    let window = instant::window(&request.window.unwrap_or_default(), &mut violations);
    let run_id = (!request.run_id.is_empty())
        .then(|| violations.parse("run_id", request::uuid(&request.run_id)))
        .flatten();
    violations.finish()?;
    let app = &features.app;
    let project = project_name(&request.project);
    let action = Action::MaterializeFeatures;
    let scope = caller.authorize(app, action, &project).await?;
    let run = match run_id {
        Some(run_id) => {
            let experiment = store::experiment_of_run(app.db.read(), &scope, run_id).await?;
            Some((run_id, experiment))
        }
        None => None,
    };
    let catalog = definitions::load(app.db.read(), &scope).await?;
    let work = Work {
        views: views(&catalog, &request.feature_views)?,
        features: features.clone(),
        catalog: Arc::new(catalog),
        scope,
        window,
        run,
    };
    let (sender, receiver) = mpsc::channel(AHEAD);
    let task = features.runtime.spawn(async move {
        for view in &work.views {
            let _turn = work.features.turn().await?;
            view::materialize(&work, view, &sender).await?;
        }
        Ok(())
    });
    Ok(TaskStream::new(receiver, task))
}

/// The views that are named, or all that are online.
fn views(catalog: &Catalog, names: &[String]) -> Result<Vec<View>> {
    if names.is_empty() {
        let online = catalog.views.values().filter(|view| view.definition.online);
        return Ok(online.cloned().collect());
    }
    let mut views: Vec<View> = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let Some(view) = catalog.views.get(name) else {
            if catalog.on_demand_views.contains_key(name) {
                let text =
                    format!("`{name}` is computed on demand; materialize the views that it reads");
                return Err(Error::invalid(format!("feature_views[{at}]"), text));
            }
            return Err(Error::not_found("feature view", name));
        };
        if !view.definition.online {
            return Err(not_online(name));
        }
        if !views.iter().any(|known| &known.definition.name == name) {
            views.push(view.clone());
        }
    }
    Ok(views)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_online_views_are_materialized() {
        let mut catalog = Catalog::default();
        for (name, online) in [("a", true), ("b", false), ("c", true)] {
            let definition = pb::FeatureView {
                name: name.to_owned(),
                online,
                ..Default::default()
            };
            let view = View {
                definition,
                key_types: Vec::new(),
                origin: String::new(),
            };
            catalog.views.insert(name.to_owned(), view);
        }
        let names = |views: Vec<View>| -> Vec<String> {
            views.into_iter().map(|view| view.definition.name).collect()
        };
        assert_eq!(names(views(&catalog, &[]).unwrap()), ["a", "c"]);
        let twice = ["c".to_owned(), "c".to_owned()];
        assert_eq!(names(views(&catalog, &twice).unwrap()), ["c"]);
        assert!(views(&catalog, &["b".to_owned()]).is_err());
        assert!(views(&catalog, &["none".to_owned()]).is_err());
    }
}
