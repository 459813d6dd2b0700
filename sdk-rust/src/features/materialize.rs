//! Copying the newest rows per key into the online store, with progress.

use std::time::SystemTime;

use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use mlplat_proto::features::v1 as pb;

use super::{Features, feature_store};
use crate::{
    call::new_request_id,
    client::Client,
    convert::{range, system_time},
    error::Result,
    tracking::checked_run_id,
};

/// What to materialize.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Materialize {
    feature_views: Vec<String>,
    start: Option<SystemTime>,
    end: Option<SystemTime>,
    run_id: String,
}

impl Materialize {
    /// These views; none given: all that are online.
    pub fn new<S: Into<String>>(feature_views: impl IntoIterator<Item = S>) -> Self {
        Self {
            feature_views: feature_views.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// First event time; default: where the last one ended, the first time the beginning of the data.
    pub fn start(mut self, start: SystemTime) -> Self {
        self.start = Some(start);
        self
    }

    /// Last event time, inclusive; default now.
    pub fn end(mut self, end: SystemTime) -> Self {
        self.end = Some(end);
        self
    }

    /// The run that does it.
    pub fn run(mut self, run_id: impl Into<String>) -> Self {
        self.run_id = run_id.into();
        self
    }
}

/// How far one view is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MaterializeProgress {
    /// The view at work.
    pub feature_view: String,
    /// Rows read so far.
    pub rows_read: u64,
    /// Keys written so far.
    pub keys_written: u64,
    /// True once all of the view is stored.
    pub done: bool,
    /// First event time that is covered, where one is known.
    pub start: Option<SystemTime>,
    /// Last event time that is covered, where one is known.
    pub end: Option<SystemTime>,
}

impl From<pb::MaterializeResponse> for MaterializeProgress {
    fn from(p: pb::MaterializeResponse) -> Self {
        let window = p.window.unwrap_or_default();
        Self {
            feature_view: p.feature_view,
            rows_read: p.rows_read,
            keys_written: p.keys_written,
            done: p.done,
            start: window.start.map(system_time),
            end: window.end.map(system_time),
        }
    }
}

/// Progress as it comes in; the work goes on only while it is read.
#[must_use = "a materialization that is not read to its end is cut off"]
pub struct MaterializeStream {
    progress: BoxStream<'static, Result<MaterializeProgress>>,
}

impl std::fmt::Debug for MaterializeStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MaterializeStream(..)")
    }
}

impl MaterializeStream {
    /// The next report; none when all is done.
    ///
    /// # Errors
    /// As [`Features::materialize`].
    pub async fn next(&mut self) -> Result<Option<MaterializeProgress>> {
        self.progress.try_next().await
    }

    /// Reads to the end, and returns the last report of each view.
    ///
    /// # Errors
    /// As [`Features::materialize`].
    pub async fn finish(self) -> Result<Vec<MaterializeProgress>> {
        self.finish_with(|_| {}).await
    }

    /// As [`MaterializeStream::finish`], and calls `report` for every report.
    ///
    /// # Errors
    /// As [`Features::materialize`].
    pub async fn finish_with(
        mut self,
        mut report: impl FnMut(&MaterializeProgress),
    ) -> Result<Vec<MaterializeProgress>> {
        let mut last: Vec<MaterializeProgress> = Vec::new();
        while let Some(progress) = self.next().await? {
            report(&progress);
            match last
                .iter_mut()
                .find(|known| known.feature_view == progress.feature_view)
            {
                Some(known) => *known = progress,
                None => last.push(progress),
            }
        }
        Ok(last)
    }
}

impl Features {
    /// Copies the newest rows per key into the online store. Safe to repeat: older rows never replace newer ones.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) for unknown views,
    /// [`Error::FailedPrecondition`](crate::Error::FailedPrecondition) for views that are not online.
    pub async fn materialize(&self, what: Materialize) -> Result<MaterializeStream> {
        let request = pb::MaterializeRequest {
            project: self.project(),
            feature_views: what.feature_views,
            window: range(what.start, what.end),
            run_id: if what.run_id.is_empty() {
                String::new()
            } else {
                checked_run_id(&what.run_id)?
            },
        };
        // As for a retrieval: whether the server is there is found out by a call that can be repeated.
        self.client.admin().server_info().await?;
        let (client, request_id): (Client, String) = (self.client.clone(), new_request_id());
        let request = client.request(request, client.stream_timeout(), &request_id);
        let answer = feature_store(client.channel()).materialize(request).await;
        let answer = answer
            .map_err(|status| client.decode(&status, &request_id))?
            .into_inner();
        let progress = answer.map(move |report| match report {
            Ok(report) => Ok(report.into()),
            Err(status) => Err(client.decode(&status, &request_id)),
        });
        Ok(MaterializeStream {
            progress: progress.boxed(),
        })
    }
}
