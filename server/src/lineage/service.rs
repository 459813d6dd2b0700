//! LineageService: the graph and the events over gRPC.

use std::sync::Arc;

use mlplat_proto::lineage::v1::{
    Direction, GetLineageRequest, GetLineageResponse, ListEventsRequest, ListEventsResponse,
    lineage_service_server::LineageService,
};
use tonic::{Request, Response, Status};

use super::{
    convert,
    graph::{self, Limits, Way},
    naming::Names,
    start::{self, Wanted},
    store::{self, After},
};
use crate::{
    app::App,
    auth::{Action, Caller},
    page::Page,
    request::{self, Violations},
};

const DEFAULT_DEPTH: u32 = 50;
const MAX_DEPTH: u32 = 200;
const DEFAULT_NODES: u32 = 1000;
const MAX_NODES: u32 = 10_000;

/// The lineage service.
#[derive(Clone)]
pub struct Lineage {
    app: Arc<App>,
}

impl Lineage {
    /// The service of this installation.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

/// A limit of a request: 0 means `default`.
fn limit(violations: &mut Violations, field: &str, value: u32, default: u32, max: u32) -> u32 {
    if value > max {
        violations.add(field, format!("must be at most {max}, is {value}"));
    }
    if value == 0 { default } else { value }
}

fn ways(violations: &mut Violations, direction: i32) -> &'static [Way] {
    match Direction::try_from(direction) {
        Ok(Direction::Upstream) => &[Way::Up],
        Ok(Direction::Downstream) => &[Way::Down],
        Ok(Direction::Both | Direction::Unspecified) => &[Way::Up, Way::Down],
        Err(_) => {
            violations.add("direction", format!("{direction} is not a direction"));
            &[]
        }
    }
}

#[tonic::async_trait]
impl LineageService for Lineage {
    async fn get_lineage(
        &self,
        request: Request<GetLineageRequest>,
    ) -> Result<Response<GetLineageResponse>, Status> {
        let caller = Caller::of(&request)?;
        let message = request.into_inner();
        let project = request::project_name(&message.project);
        let mut violations = Violations::new();
        let ways = ways(&mut violations, message.direction);
        let depth = limit(
            &mut violations,
            "depth",
            message.depth,
            DEFAULT_DEPTH,
            MAX_DEPTH,
        );
        let max_nodes = limit(
            &mut violations,
            "max_nodes",
            message.max_nodes,
            DEFAULT_NODES,
            MAX_NODES,
        ) as usize;
        let names = Names::new(&self.app.instance, &project);
        let wanted = Wanted::parse(&mut violations, message.node, &names);
        violations.finish()?;
        let Some(wanted) = wanted else {
            return Err(Status::internal("a node was parsed without a result"));
        };
        let scope = caller.authorize(&self.app, Action::Read, &project).await?;
        let conn = self.app.db.read();
        let start = start::find(conn, &scope, wanted, max_nodes).await?;
        // Leave room for the node that stands for all versions.
        let max_nodes = max_nodes - usize::from(start.whole.is_some());
        let graph = graph::walk(
            conn,
            &scope,
            &start.nodes,
            ways,
            Limits { depth, max_nodes },
        )
        .await?;
        Ok(Response::new(convert::graph(graph, start, ways)))
    }

    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let message = request.into_inner();
        let project = request::project_name(&message.project);
        let mut violations = Violations::new();
        let run_id = match message.run_id.as_str() {
            "" => None,
            id => violations.parse("run_id", request::uuid(id)),
        };
        let fingerprint = ["ListEvents", &project, &message.run_id];
        let page = Page::parse(
            &mut violations,
            message.page_size,
            &message.page_token,
            &fingerprint,
        );
        let after = after(&mut violations, page.after());
        violations.finish()?;
        let scope = caller.authorize(&self.app, Action::Read, &project).await?;
        let conn = self.app.db.read();
        let mut events = store::list(conn, &scope, run_id, after, page.limit() + 1).await?;
        let total_size = store::count(conn, &scope, run_id).await?;
        let next_page_token = page.cut(&mut events, |last| {
            vec![last.event_time_at.to_string(), last.id.to_string()]
        });
        let events = events.into_iter().map(Into::into).collect();
        Ok(Response::new(ListEventsResponse {
            events,
            next_page_token,
            total_size,
        }))
    }
}

/// Where the page before ended.
fn after(violations: &mut Violations, cursor: Option<&[String]>) -> Option<After> {
    let cursor = cursor?;
    let parsed = match cursor {
        [event_time, id] => event_time.parse().ok().zip(id.parse().ok()),
        _ => None,
    };
    if parsed.is_none() {
        violations.add("page_token", "is not one of this list");
    }
    parsed.map(|(event_time, id)| After { event_time, id })
}
