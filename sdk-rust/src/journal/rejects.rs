//! What the server refuses for good: kept below `rejected` in the home, and told.
//!
//! Invariant: records are kept in a journal of their own, in the same form, so that they can be delivered when the reason is
//! gone. A disk that does not take them is told, and is no reason to stop the delivery of others.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use uuid::Uuid;

use super::{
    copied::Definition,
    courier::Task,
    folder::{self, Folder, Meta},
    limits::Limits,
    notice,
    owner::Owner,
    record::{self, Record},
    shared::Shared,
    window::Piece,
    writer::Writer,
};
use crate::{client::Client, error::Error};

/// The place of what one journal has been refused.
#[derive(Debug)]
pub(super) struct Rejects {
    home: Option<PathBuf>,
    writer: Option<Writer>,
    said: notice::Once,
    /// Records so far.
    pub(super) count: u64,
}

impl Rejects {
    pub(super) fn new(home: Option<PathBuf>) -> Self {
        Self {
            home,
            writer: None,
            said: notice::Once::default(),
            count: 0,
        }
    }

    /// Keeps the records of a task, and tells why.
    pub(super) fn keep(&mut self, client: &Client, task: Task<'_>, error: &Error) {
        let place = self.keep_records(client, task);
        self.count += task.pieces.len() as u64;
        let run = task.run.run;
        self.said.warn(&format!("{}/{run}", error.reason()), || {
            format!(
                "THE SERVER REFUSES what was logged to run {run}: {error}. It is kept in {place}; `mlplat sync --rejected` tries \
                 it again"
            )
        });
    }

    /// Keeps records; the answer is where.
    fn keep_records(&mut self, client: &Client, task: Task<'_>) -> String {
        let Some(writer) = self.writer(client) else {
            return "no place, as there is no home folder".to_owned();
        };
        for piece in task.pieces {
            writer.copy(definitions(task, piece), task.window.frame(piece));
        }
        writer.place()
    }

    /// Keeps a file whose record is refused, where a journal has such files.
    pub(super) fn keep_file(&mut self, client: &Client, spooled: &str, path: &Path) {
        let Some(writer) = self.writer(client) else {
            return;
        };
        let kept = writer.hold().and_then(|folder| {
            let to = folder.spooled(spooled);
            to.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::copy(path, to)
        });
        writer.release();
        if let Err(error) = kept {
            let path = path.display();
            notice::warn(&format!(
                "{path}, which the server refuses, cannot be kept: {error}"
            ));
        }
    }

    /// The journal of what is refused.
    fn writer(&mut self, client: &Client) -> Option<&mut Writer> {
        let home = self.home.as_ref()?;
        Some(self.writer.get_or_insert_with(|| {
            let id = Uuid::now_v7();
            let folder = Folder::at(folder::rejected(home).join(id.to_string()));
            let meta = Meta::new(id, client.url(), client.project(), Owner::default());
            let shared = Arc::new(Shared::new());
            Writer::new(meta, Some(folder), Limits::from_env(), shared)
        }))
    }

    /// Keeps a segment in which something is damaged; it is gone from where it was.
    pub(super) fn keep_segment(&self, folder: &Folder, writer: Uuid, segment: u64) {
        let Some(home) = &self.home else {
            return;
        };
        let directory = folder::rejected(home);
        let name = format!("damaged-{writer}-{segment:06}.seg");
        let kept = std::fs::create_dir_all(&directory)
            .and_then(|()| std::fs::rename(folder.segment(segment), directory.join(name)));
        if let Err(error) = kept {
            tracing::debug!(%error, segment, "a damaged segment could not be kept");
        }
    }
}

/// The definitions that a record needs.
fn definitions(task: Task<'_>, piece: &Piece) -> Vec<Definition> {
    let record = task.window.record(piece);
    let Some(run_id) = record.run() else {
        return Vec::new();
    };
    let keys: Vec<record::Id> = match &record {
        Record::Metrics(metrics) => metrics.pairs().map(|pair| pair.0).collect(),
        Record::Series(series) => vec![series.key],
        _ => Vec::new(),
    };
    let mut needed = vec![Definition::run(run_id, task.run)];
    for key in keys {
        if let Some(name) = task.definitions.key(key) {
            needed.push(Definition::key(key, name));
        }
    }
    needed
}
