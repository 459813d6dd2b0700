//! Finding runs. The filter is the server's language and passes through as it is.

use mlplat_proto::tracking::v1 as pb;

use super::{Run, Tracking, tracking};
use crate::{call::rpc, page::Paged};

/// Which runs to find, and in what order.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct RunQuery {
    experiments: Vec<String>,
    filter: String,
    order_by: Vec<String>,
    page_size: u32,
}

impl RunQuery {
    /// All runs of the project, newest first.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only runs of this experiment, or of this one too.
    pub fn experiment(mut self, name: impl Into<String>) -> Self {
        self.experiments.push(name.into());
        self
    }

    /// Only runs that fit, e.g. `metrics.mae < 15 AND params.depth = "3"`.
    pub fn filter(mut self, filter: impl Into<String>) -> Self {
        self.filter = filter.into();
        self
    }

    /// Orders by this, then by what is added later, e.g. `metrics.mae ASC`.
    pub fn order_by(mut self, order: impl Into<String>) -> Self {
        self.order_by.push(order.into());
        self
    }

    /// Runs per request, at most 1000; default 100.
    pub fn page_size(mut self, size: u32) -> Self {
        self.page_size = size;
        self
    }
}

impl Tracking {
    /// Runs that fit the query, page by page as they are taken. A bad filter is the first item, as
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument).
    pub fn search_runs(&self, query: RunQuery) -> Paged<Run> {
        let client = self.client.clone();
        Paged::new(move |page_token| {
            let (client, query) = (client.clone(), query.clone());
            async move {
                let request = pb::SearchRunsRequest {
                    project: client.project().to_owned(),
                    experiments: query.experiments,
                    filter: query.filter,
                    order_by: query.order_by,
                    page_size: query.page_size,
                    page_token,
                };
                let answer = rpc!(client, Repeatable, tracking.search_runs, request)?;
                Ok((
                    answer.runs.into_iter().map(Run::from).collect(),
                    answer.next_page_token,
                ))
            }
        })
    }
}
