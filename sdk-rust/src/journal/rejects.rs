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

    fn keep_records(&mut self, client: &Client, task: Task<'_>) -> String {
        let Some(home) = &self.home else {
            return "no place, as there is no home folder".to_owned();
        };
        let writer = self.writer.get_or_insert_with(|| {
            let id = Uuid::now_v7();
            let folder = Folder::at(folder::rejected(home).join(id.to_string()));
            let meta = Meta::new(id, client.url(), client.project(), Owner::default());
            let shared = Arc::new(Shared::new());
            Writer::new(meta, Some(folder), Limits::from_env(), shared)
        });
        for piece in task.pieces {
            writer.copy(|buffer| {
                define(buffer, task, piece);
                buffer.extend_from_slice(task.window.frame(piece));
            });
        }
        writer.place()
    }

    /// Keeps a file whose record is refused.
    pub(super) fn keep_file(&self, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{}-{name}", Uuid::now_v7().simple());
        self.put("files", &name, |to| std::fs::copy(path, to).map(|_| ()));
    }

    /// Keeps a segment in which something is damaged; it is gone from where it was.
    pub(super) fn keep_segment(&self, folder: &Folder, writer: Uuid, segment: u64) {
        let name = format!("damaged-{writer}-{segment:06}.seg");
        self.put("", &name, |to| std::fs::rename(folder.segment(segment), to));
    }

    fn put(&self, directory: &str, name: &str, put: impl FnOnce(&Path) -> std::io::Result<()>) {
        let Some(home) = &self.home else {
            return;
        };
        let directory = folder::rejected(home).join(directory);
        let kept = std::fs::create_dir_all(&directory).and_then(|()| put(&directory.join(name)));
        if let Err(error) = kept {
            tracing::debug!(%error, name, "what is refused could not be kept");
        }
    }
}

/// Writes the definitions that a record needs.
fn define(buffer: &mut Vec<u8>, task: Task<'_>, piece: &Piece) {
    let (run_id, keys): (record::Id, Vec<record::Id>) = match task.window.record(piece) {
        Record::Metrics(metrics) => (metrics.run, metrics.pairs().map(|pair| pair.0).collect()),
        Record::Series(series) => (series.run, vec![series.key]),
        Record::Batch { run, .. }
        | Record::Open { run, .. }
        | Record::End { run, .. }
        | Record::Artifact { run, .. } => (run, Vec::new()),
        _ => return,
    };
    record::put_run(buffer, run_id, task.run.run, task.run.own);
    for key in keys {
        if let Some(name) = task.definitions.key(key) {
            record::put_key(buffer, key, name);
        }
    }
}
