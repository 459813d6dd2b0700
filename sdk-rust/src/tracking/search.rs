//! Finding runs. The filter is the server's language and passes through as it is.

use mlplat_proto::tracking::v1 as pb;

use super::{Run, Tracking, View, tracking};
use crate::{call::rpc, client::Client, error::Result, page::Paged};

/// Which runs to find, and in what order.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct RunQuery {
    experiments: Vec<String>,
    filter: String,
    order_by: Vec<String>,
    page_size: u32,
    view: View,
    pub(super) fields: Vec<String>,
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

    /// Also, or only, runs that are deleted.
    pub fn view(mut self, view: View) -> Self {
        self.view = view;
        self
    }

    /// Of each run only this besides its own fields, and what is added later: `metrics`, `params`, `tags` or `inputs` for all
    /// of a kind, one as `metrics.mae`, or `none`. Without it runs come whole.
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.fields.push(field.into());
        self
    }

    /// Runs per request, at most 1000; default 100.
    pub fn page_size(mut self, size: u32) -> Self {
        self.page_size = size;
        self
    }

    pub(super) fn into_request(self, client: &Client, page_token: String) -> pb::SearchRunsRequest {
        pb::SearchRunsRequest {
            project: client.project().to_owned(),
            experiments: self.experiments,
            filter: self.filter,
            order_by: self.order_by,
            page_size: self.page_size,
            page_token,
            view: pb::View::from(self.view).into(),
            fields: self.fields,
        }
    }
}

/// Some of the runs that fit a query, and where the next ones are.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RunPage {
    /// The runs, in order.
    pub runs: Vec<Run>,
    /// Where to go on; none on the last page.
    pub next_page_token: Option<String>,
}

impl Tracking {
    /// One page of the runs that fit the query: the first, or the one that `page_token` of the page before names.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for a bad filter, or a token of another query.
    pub async fn search_page(&self, query: RunQuery, page_token: &str) -> Result<RunPage> {
        let request = query.into_request(&self.client, page_token.to_owned());
        let answer = rpc!(self.client, Repeatable, tracking.search_runs, request)?;
        let next = answer.next_page_token;
        Ok(RunPage {
            runs: answer.runs.into_iter().map(Run::from).collect(),
            next_page_token: (!next.is_empty()).then_some(next),
        })
    }

    /// Runs that fit the query, page by page as they are taken. A bad filter is the first item, as
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument).
    pub fn search_runs(&self, query: RunQuery) -> Paged<Run> {
        let client = self.client.clone();
        Paged::new(move |page_token| {
            let (client, query) = (client.clone(), query.clone());
            async move {
                let request = query.into_request(&client, page_token);
                let answer = rpc!(client, Repeatable, tracking.search_runs, request)?;
                Ok((
                    answer.runs.into_iter().map(Run::from).collect(),
                    answer.next_page_token,
                ))
            }
        })
    }
}
