//! What TrackingService does to search runs.

use mlplat_proto::tracking::v1 as pb;
use prost::Message as _;
use tonic::Request;

use super::{
    ast::{Filter, Selected},
    fields, order, parser,
    query::{self, Found, Search},
};
use crate::{
    app::App,
    auth::{Action, Caller, Scope},
    error::Result,
    page::Page,
    request::{self, Violations, project_name},
    tracking::{
        View, experiments,
        runs::assemble::{Selection, assemble},
    },
};

const MAX_EXPERIMENTS: usize = 1000;
const MAX_ORDERS: usize = 10;
const MAX_FIELDS: usize = 1000;
/// Runs read before it is known how large they are.
const FIRST_PART: usize = 100;
/// Size of a page beyond which it gets no more runs.
const PAGE_BYTES: usize = 8 << 20;

/// A page of runs that fit a filter.
pub(crate) async fn search_runs(
    app: &App,
    request: Request<pb::SearchRunsRequest>,
) -> Result<pb::SearchRunsResponse> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let project = project_name(&message.project);
    let (search, selection, page) = parse(&message, &project)?;
    let scope = caller.authorize(app, Action::Read, &project).await?;

    let mut found = query::search(app, &scope, &search, &page).await?;
    let sort_values = |last: &Found| last.sort_values.iter().map(order::encode).collect();
    let mut next_page_token = page.cut(&mut found, sort_values);
    let (runs, fitted) = assemble_what_fits(app, &scope, &found, &selection).await?;
    if fitted < found.len()
        && let Some(last) = fitted.checked_sub(1).and_then(|last| found.get(last))
    {
        next_page_token = page.token_after(sort_values(last));
    }
    Ok(pb::SearchRunsResponse {
        runs,
        next_page_token,
    })
}

/// The runs from the first on that fit into one message together, at least one, and how many were found up to there: one that
/// is gone meanwhile is left out.
async fn assemble_what_fits(
    app: &App,
    scope: &Scope,
    found: &[Found],
    selection: &Selection,
) -> Result<(Vec<pb::Run>, usize)> {
    let (mut runs, mut bytes, mut done) = (Vec::with_capacity(found.len()), 0, 0);
    let mut part = FIRST_PART;
    while done < found.len() {
        let end = found.len().min(done + part);
        for run in assemble_found(app, scope, &found[done..end], selection).await? {
            if let Some(run) = run {
                bytes += run.encoded_len();
                if bytes > PAGE_BYTES && !runs.is_empty() {
                    return Ok((runs, done));
                }
                runs.push(run);
            }
            done += 1;
        }
        // As many as will fit if they are like those before.
        part = PAGE_BYTES.saturating_sub(bytes) / (bytes / done).max(1) + 1;
    }
    Ok((runs, done))
}

/// Found runs: those that have changed since they were read last, or never were, from the database.
async fn assemble_found(
    app: &App,
    scope: &Scope,
    found: &[Found],
    selection: &Selection,
) -> Result<Vec<Option<pb::Run>>> {
    let mut runs = Vec::with_capacity(found.len());
    let (mut places, mut ids) = (Vec::new(), Vec::new());
    for (place, found) in found.iter().enumerate() {
        let recent = app.recent_runs.get(found.id, found.revision, selection);
        let run = recent.await.map(|run| pb::Run {
            experiment: found.experiment.clone(),
            ..run
        });
        if run.is_none() {
            places.push(place);
            ids.push(found.id);
        }
        runs.push(run);
    }
    let assembled = assemble(app.db.read(), scope, &ids, selection).await?;
    for ((place, id), assembled) in places.into_iter().zip(ids).zip(assembled) {
        if let Some(assembled) = assembled {
            app.recent_runs.keep(id, &assembled, selection).await;
            runs[place] = Some(assembled.run);
        }
    }
    Ok(runs)
}

fn parse(message: &pb::SearchRunsRequest, project: &str) -> Result<(Search, Selection, Page)> {
    let mut violations = Violations::new();
    if message.experiments.len() > MAX_EXPERIMENTS {
        violations.add(
            "experiments",
            format!("must hold at most {MAX_EXPERIMENTS} names"),
        );
    } else {
        for (index, name) in message.experiments.iter().enumerate() {
            violations.parse(
                format!("experiments[{index}]"),
                request::name(name, experiments::MAX_NAME),
            );
        }
    }
    let filter = violations.parse("filter", parser::parse(&message.filter));
    let mut order = Vec::new();
    if message.order_by.len() > MAX_ORDERS {
        violations.add("order_by", format!("must hold at most {MAX_ORDERS} orders"));
    } else {
        for (index, text) in message.order_by.iter().enumerate() {
            order.extend(violations.parse(format!("order_by[{index}]"), fields::parse_order(text)));
        }
    }
    let view = violations.parse("view", View::parse(message.view));
    let selection = selection(&mut violations, &message.fields);
    // Experiments and orders are parted by their numbers, so that no two requests look alike.
    let count = message.experiments.len().to_string();
    let seen = message.view.to_string();
    let mut fingerprint = vec!["runs", project, &message.filter, &seen, &count];
    fingerprint.extend(message.experiments.iter().map(String::as_str));
    fingerprint.extend(message.order_by.iter().map(String::as_str));
    let page = Page::parse(
        &mut violations,
        message.page_size,
        &message.page_token,
        &fingerprint,
    );
    violations.finish()?;
    let search = Search {
        experiments: message.experiments.clone(),
        filter: filter.unwrap_or(Filter::All(Vec::new())),
        order,
        view: view.unwrap_or_default(),
    };
    Ok((search, selection, page))
}

/// What of each run to return; nothing named is everything.
fn selection(violations: &mut Violations, fields: &[String]) -> Selection {
    if fields.is_empty() {
        return Selection::everything();
    }
    let mut selection = Selection::default();
    if fields.len() > MAX_FIELDS {
        violations.add("fields", format!("must hold at most {MAX_FIELDS} entries"));
        return selection;
    }
    for (index, text) in fields.iter().enumerate() {
        match violations.parse(format!("fields[{index}]"), fields::parse_selected(text)) {
            Some(Selected::Metrics(key)) => selection.metrics.add(key),
            Some(Selected::Params(key)) => selection.params.add(key),
            Some(Selected::Tags(key)) => selection.tags.add(key),
            Some(Selected::Inputs) => selection.inputs = true,
            Some(Selected::Nothing) | None => {}
        }
    }
    selection
}
