//! Brings the records of a window to the server.
//!
//! Invariant: a window is delivered when each of its records was stored by the server or refused for good; what was refused
//! is kept under `rejected`, and told. Calls may be repeated as often as it takes: the server recognizes records by their
//! numbers, and runs by their ids.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use mlplat_proto::tracking::v1::{self as pb, tracking_service_client::TrackingServiceClient};
use prost::Message as _;
use tonic::transport::Channel;
use uuid::Uuid;

use super::{
    folder::Folder,
    leftovers::{self, Others},
    notice,
    reader::{Definitions, Reader},
    record::{Record, RunDefinition},
    rejects::Rejects,
    retries::{GivenUp, Manner, Needs, RUN_NOT_FOUND},
    window::{Call, Piece, Step, Window},
};
use crate::{
    artifacts::UploadOptions,
    call::{MAX_MESSAGE_BYTES, rpc},
    client::Client,
    error::{Detail, Error, Result},
};

/// Brings records of one journal to the server.
#[derive(Debug)]
pub(super) struct Courier {
    /// A client that does not wait for the journal.
    client: Client,
    writer_id: Uuid,
    folder: Option<Folder>,
    home: Option<PathBuf>,
    manner: Manner,
    rejects: Rejects,
    /// Runs of the journal's own process that it has not ended so far.
    unended: HashSet<Uuid>,
}

/// Records of one run that are delivered together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) window: &'a Window,
    pub(super) definitions: &'a Definitions,
    pub(super) run: RunDefinition,
    pub(super) pieces: &'a [Piece],
}

impl<'a> Task<'a> {
    fn of(self, pieces: &'a [Piece]) -> Self {
        Self { pieces, ..self }
    }

    /// What the first of them says.
    fn record(self) -> Record<'a> {
        let first = self.pieces.first();
        first.map_or(Record::Unknown, |piece| self.window.record(piece))
    }
}

pub(super) fn tracking(channel: Channel) -> TrackingServiceClient<Channel> {
    TrackingServiceClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

impl Courier {
    pub(super) fn new(
        client: Client,
        writer_id: Uuid,
        folder: Option<Folder>,
        home: Option<PathBuf>,
        manner: Manner,
    ) -> Self {
        Self {
            client,
            writer_id,
            folder,
            rejects: Rejects::new(home.clone()),
            home,
            manner,
            unended: HashSet::new(),
        }
    }

    /// Records that the server did not take so far.
    pub(super) fn rejected(&self) -> u64 {
        self.rejects.count
    }

    /// Delivers a window.
    pub(super) async fn deliver(
        &mut self,
        window: &Window,
        definitions: &Definitions,
    ) -> Result<(), GivenUp> {
        for Call { run, step } in &window.calls {
            let task = |pieces| Task {
                window,
                definitions,
                run: *run,
                pieces,
            };
            let one = |piece| task(std::slice::from_ref(piece));
            let (task, done) = match step {
                Step::Log(pieces) => {
                    self.log(task(pieces)).await?;
                    continue;
                }
                Step::Open(piece) => (one(piece), self.open(one(piece)).await?),
                Step::End(piece) => (one(piece), self.end(one(piece)).await?),
                Step::Call(piece) => (one(piece), self.call(one(piece)).await?),
                Step::Artifact(piece) => (one(piece), self.artifact(one(piece)).await?),
                Step::Unknown(piece) => {
                    let why = "this version of mlplat does not know what it means";
                    (one(piece), Err(Error::misuse(why)))
                }
            };
            if let Err(error) = done {
                self.reject(task, &error);
            }
        }
        Ok(())
    }

    /// Keeps records that the server does not take where they can be found.
    fn reject(&mut self, task: Task<'_>, error: &Error) {
        let mut kept = task;
        kept.run.origin.get_or_insert(self.writer_id);
        self.rejects.keep(&self.client, kept, error);
        self.manner.note_rejected(task.pieces.len() as u64);
    }

    /// Stores records of one run. When some of them are refused, the others are found by halving.
    async fn log(&mut self, task: Task<'_>) -> Result<(), GivenUp> {
        let run = task.run;
        let mut parts = vec![task.pieces];
        while let Some(part) = parts.pop() {
            let (mut batch, count) = task.window.batch(part, task.definitions);
            let (now, later) = part.split_at(count);
            if !later.is_empty() {
                parts.push(later);
            }
            self.client.project().clone_into(&mut batch.project);
            batch.run_id = run.run.to_string();
            batch.writer_id = self.writer_id.to_string();
            batch.late = !matches!(self.manner, Manner::Own(_));
            batch.joined = !run.own && run.origin.is_none();
            batch.origin_writer_id = run
                .origin
                .map(|origin| origin.to_string())
                .unwrap_or_default();
            let last = batch.sequence;
            let sent = self
                .manner
                .until_done(Needs::of(run), || async {
                    rpc!(self.client, Repeatable, tracking.log_batch, batch.clone())
                })
                .await?;
            match sent {
                Ok(answer) => {
                    if run.own {
                        self.unended.insert(run.run);
                    }
                    let stored = answer.stored_sequence;
                    if answer.replayed && stored > 0 && stored < last {
                        // Another deliverer was here, and had cut the records into other batches.
                        let rest = now.partition_point(|piece| piece.number <= stored);
                        parts.push(&now[rest..]);
                    }
                }
                Err(error) if now.len() == 1 || concerns_the_run(&error) => {
                    self.reject(task.of(now), &error);
                }
                Err(_) => {
                    let (first, second) = now.split_at(now.len() / 2);
                    parts.extend([second, first]);
                }
            }
        }
        Ok(())
    }

    /// Begins a run, or goes on with it; the inner error says that the server refuses it.
    async fn open(&mut self, task: Task<'_>) -> Result<Result<()>, GivenUp> {
        let Record::Open { create, resume, .. } = task.record() else {
            return Ok(Ok(()));
        };
        if let Some(mut resume) = resume.and_then(|bytes| pb::ResumeRunRequest::decode(bytes).ok())
        {
            resume.writer_id = self.writer_of(task.run).to_string();
            if matches!(self.manner, Manner::Own(_)) && is_recent(&resume) {
                resume.resumed_at = None;
            }
            self.before_resuming(&resume).await?;
            let mut sent = self.resume(task, &resume).await?;
            if matches!(sent, Err(Error::NotFound(_))) && self.others_first(Others::All).await {
                sent = self.resume(task, &resume).await?;
            }
            match sent {
                Err(Error::NotFound(_)) => {}
                done => return Ok(done.map(|_| self.begun(task.run))),
            }
        }
        let mut create = pb::CreateRunRequest::decode(create).unwrap_or_default();
        create.heartbeats = matches!(self.manner, Manner::Own(_));
        create.writer_id = self.writer_of(task.run).to_string();
        loop {
            // The run that it is nested in may be of another process.
            let nested = !create.parent_run_id.is_empty();
            let needs = if nested {
                Needs::Parent
            } else {
                Needs::Nothing
            };
            let sent = self
                .manner
                .until_done(needs, || async {
                    rpc!(self.client, Repeatable, tracking.create_run, create.clone())
                })
                .await?;
            match sent {
                Err(error) if nested && error.reason() == RUN_NOT_FOUND => {
                    notice::warn(&format!(
                        "run {} is nested in run {}, which the server does not know; it is stored as one of its own",
                        create.run_id, create.parent_run_id
                    ));
                    create.parent_run_id.clear();
                }
                done => return Ok(done.map(|_| self.begun(task.run))),
            }
        }
    }

    /// What an earlier process of a run left is of the time before, and goes first.
    async fn before_resuming(&self, resume: &pb::ResumeRunRequest) -> Result<(), GivenUp> {
        if matches!(self.manner, Manner::Own(_)) {
            let look = pb::GetRunRequest {
                project: resume.project.clone(),
                run_id: resume.run_id.clone(),
                view: pb::View::All.into(),
            };
            // Waits for the server, which the others would not.
            let _ = self
                .manner
                .until_done(Needs::Nothing, || async {
                    rpc!(self.client, Repeatable, tracking.get_run, look.clone())
                })
                .await?;
            self.others_first(Others::Older).await;
        }
        Ok(())
    }

    /// Takes a run up again.
    async fn resume(
        &self,
        task: Task<'_>,
        resume: &pb::ResumeRunRequest,
    ) -> Result<Result<()>, GivenUp> {
        let sent = self
            .manner
            .until_done(Needs::of(task.run), || async {
                rpc!(self.client, Repeatable, tracking.resume_run, resume.clone())
            })
            .await?;
        Ok(sent.map(drop))
    }

    /// Delivers what dead processes left, unless that is what is being done; the answer is whether there may have been any.
    async fn others_first(&self, others: Others) -> bool {
        let Some(home) = self
            .home
            .as_deref()
            .filter(|_| !self.manner.is_for_another())
        else {
            return false;
        };
        leftovers::deliver_others(&self.client, home, self.writer_id, others).await;
        true
    }

    /// What is a call of its own.
    async fn call(&mut self, task: Task<'_>) -> Result<Result<()>, GivenUp> {
        let needs = Needs::of(task.run);
        match task.record() {
            Record::Inputs { message, .. } => {
                let request = pb::LogInputsRequest::decode(message).unwrap_or_default();
                let sent = self.manner.until_done(needs, || async {
                    rpc!(
                        self.client,
                        Repeatable,
                        tracking.log_inputs,
                        request.clone()
                    )
                });
                Ok(sent.await?.map(drop))
            }
            Record::Update { message, .. } => {
                let request = pb::UpdateRunRequest::decode(message).unwrap_or_default();
                let sent = self.manner.until_done(needs, || async {
                    rpc!(
                        self.client,
                        Repeatable,
                        tracking.update_run,
                        request.clone()
                    )
                });
                Ok(sent.await?.map(drop))
            }
            _ => Ok(Ok(())),
        }
    }

    /// The writer that begins and ends a run: of records that were refused before, the one of the journal that they were in.
    fn writer_of(&self, run: RunDefinition) -> Uuid {
        run.origin.filter(|_| run.own).unwrap_or(self.writer_id)
    }

    /// The server knows the run from now on.
    fn begun(&mut self, run: RunDefinition) {
        self.unended.insert(run.run);
        if let Manner::Own(shared) = &self.manner {
            shared.begun.lock().insert(run.run);
        }
    }

    async fn end(&mut self, task: Task<'_>) -> Result<Result<()>, GivenUp> {
        let Record::End { message, .. } = task.record() else {
            return Ok(Ok(()));
        };
        let mut request = pb::EndRunRequest::decode(message).unwrap_or_default();
        request.writer_id = self.writer_of(task.run).to_string();
        let sent = self
            .manner
            .until_done(Needs::of(task.run), || async {
                rpc!(self.client, Repeatable, tracking.end_run, request.clone())
            })
            .await?;
        self.unended.remove(&task.run.run);
        Ok(sent.map(|answer| {
            let Some(ended) = answer.run else {
                return;
            };
            if ended.status() == pb::RunStatus::Running {
                notice::warn(&format!(
                    "another process has taken up run {} since, and goes on with it; what this one logged is in the branch before",
                    task.run.run
                ));
            } else if let Manner::Own(shared) = &self.manner {
                shared.note_end(task.run.run, ended);
            }
        }))
    }

    /// Uploads a file that was kept. One that is gone was uploaded by another deliverer.
    async fn artifact(&mut self, task: Task<'_>) -> Result<Result<()>, GivenUp> {
        let Record::Artifact {
            spooled,
            directory,
            media_type,
            ..
        } = task.record()
        else {
            return Ok(Ok(()));
        };
        let Some(path) = self.folder.as_ref().map(|folder| folder.spooled(spooled)) else {
            return Ok(Ok(()));
        };
        let Ok(found) = std::fs::metadata(&path) else {
            return Ok(Ok(()));
        };
        let size = found.len();
        let kept_at = found
            .modified()
            .ok()
            .filter(|_| !matches!(self.manner, Manner::Own(_)));
        let run_id = task.run.run.to_string();
        let sent = self
            .manner
            .until_moved(Needs::of(task.run), || async {
                if let Some(kept_at) = kept_at {
                    self.refuse_older(&run_id, &path, directory, kept_at)
                        .await?;
                }
                let options = UploadOptions::default()
                    .directory(directory)
                    .media_type(media_type);
                let artifacts = self.client.artifacts();
                artifacts.upload(&run_id, &path, options).await
            })
            .await?;
        Ok(match sent {
            Ok(_) => {
                // Its folder has nothing else in it.
                if let Some(parent) = path.parent() {
                    let _ = std::fs::remove_dir_all(parent);
                }
                self.manner.give_back(size);
                Ok(())
            }
            Err(Error::Io(..)) if !path.exists() => Ok(()),
            Err(error) => {
                self.rejects.keep_file(&self.client, spooled, &path);
                Err(error)
            }
        })
    }

    /// Refuses a file of a dead process where another one has put a newer one since.
    async fn refuse_older(
        &self,
        run_id: &str,
        local: &Path,
        directory: &str,
        kept_at: SystemTime,
    ) -> Result<()> {
        let name = local.file_name().unwrap_or_default().to_string_lossy();
        let path = match directory.trim_end_matches('/') {
            "" => name.into_owned(),
            directory => format!("{directory}/{name}"),
        };
        let artifacts = self.client.artifacts();
        match artifacts.get(run_id, &path).await {
            Ok(newer) if newer.created_at > kept_at && !newer.has_content_of(local).await? => {
                Err(Error::FailedPrecondition(Box::new(Detail {
                    message: format!("`{path}` is there from another process, and newer"),
                    reason: "NEWER_ARTIFACT".into(),
                    ..Detail::default()
                })))
            }
            Ok(_) => Ok(()),
            Err(error) if error.reason() == RUN_NOT_FOUND => Err(error),
            Err(Error::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Lets the server find out that runs of a dead process are not under way any more: it was heard of then, and never again.
    pub(super) async fn last_heartbeat(&self) {
        const MOST: usize = 1000;
        if self.unended.is_empty() {
            return;
        }
        let unended = self.unended.iter().take(MOST);
        let heard_of = self.folder.as_ref().and_then(|f| f.heard_of().ok());
        let request = pb::HeartbeatRunsRequest {
            project: self.client.project().to_owned(),
            run_ids: unended.map(Uuid::to_string).collect(),
            last_heard_at: heard_of.map(Into::into),
            writer_id: self.writer_id.to_string(),
        };
        let told = rpc!(self.client, Repeatable, tracking.heartbeat_runs, request);
        if let Err(error) = told {
            tracing::debug!(%error, "a last heartbeat failed");
        }
    }

    /// Removes segments that are delivered; those in which something is damaged are kept elsewhere.
    pub(super) fn remove_segments(&self, reader: &Reader, below: u64) {
        let Some(folder) = &self.folder else {
            return;
        };
        let Ok(segments) = folder.segments() else {
            return;
        };
        for segment in segments.into_iter().filter(|&segment| segment < below) {
            if reader.damaged().contains(&segment) {
                self.rejects.keep_segment(folder, self.writer_id, segment);
            }
            self.manner.give_back(folder.remove_segment(segment));
        }
    }
}

/// Whether a run was taken up just now, as far as clocks agree.
fn is_recent(resume: &pb::ResumeRunRequest) -> bool {
    const RECENT: Duration = Duration::from_secs(60);
    let at = resume.resumed_at.map(SystemTime::try_from);
    let age = at.and_then(|at| SystemTime::now().duration_since(at.ok()?).ok());
    age.is_none_or(|age| age < RECENT)
}

/// Whether a refusal is about the run or the caller, and so about all records.
fn concerns_the_run(error: &Error) -> bool {
    matches!(
        error,
        Error::NotFound(_) | Error::PermissionDenied(_) | Error::FailedPrecondition(_)
    )
}
