//! What processes that are gone left behind: found, delivered, removed.
//!
//! Invariant: nothing of a process that may still live is removed. Delivering the journal of a live process, or one journal
//! from two processes, does no harm: the server stores each record once.

use std::{path::PathBuf, sync::Arc, time::Duration};

use uuid::Uuid;

use super::{
    Journal,
    courier::Courier,
    folder::{self, Folder, Meta},
    owner::Owner,
    reader::Reader,
    retries::{GivenUp, Manner},
    thread::note_acked,
    window::Window,
};
use crate::{
    client::{Client, ClientBuilder},
    error::{Error, Result},
};

/// A process of another machine that was silent for this long is taken for dead.
const SILENT: Duration = Duration::from_secs(300);
/// Its journal is removed after this long.
const GONE: Duration = Duration::from_secs(24 * 3600);
/// How often a process looks for what others left.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long it tries to deliver that, without any success.
const GIVE_UP: Duration = Duration::from_secs(3);

/// What [`sync`] delivers.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct SyncOptions {
    url: Option<String>,
    project: Option<String>,
    rejected: bool,
    to: Option<String>,
}

impl SyncOptions {
    /// The journals of dead processes, of all servers and projects.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only those of this server.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// Only those of this project.
    pub fn project(mut self, project: impl Into<String>) -> Self {
        self.project = Some(project.into());
        self
    }

    /// Delivers them to the server of this address, where theirs is no more; which one that was is said by [`Self::url`].
    pub fn to(mut self, url: impl Into<String>) -> Self {
        self.to = Some(url.into());
        self
    }

    /// Also tries again what the server refused before.
    pub fn rejected(mut self, again: bool) -> Self {
        self.rejected = again;
        self
    }
}

/// What became of one journal.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct JournalReport {
    /// Its folder.
    pub path: PathBuf,
    /// The server that it is for.
    pub url: String,
    /// The project that it is for.
    pub project: String,
    /// Process that wrote it, as `host:pid`.
    pub owner: String,
    /// Records that are delivered now.
    pub records: u64,
    /// Points among them.
    pub points: u64,
    /// Records that the server refused for good; they are kept.
    pub rejected: u64,
    /// Why something is left; none when all is delivered.
    pub left: Option<String>,
    /// What is left is so because the server does not answer.
    unreachable: bool,
}

impl JournalReport {
    fn of(folder: &Folder, meta: &Meta) -> Self {
        Self {
            path: folder.path().to_owned(),
            url: meta.url.clone(),
            project: meta.project.clone(),
            owner: format!("{}:{}", meta.owner.host, meta.owner.pid),
            records: 0,
            points: 0,
            rejected: 0,
            left: None,
            unreachable: false,
        }
    }
}

/// What [`sync`] did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SyncReport {
    /// The journals of dead processes.
    pub journals: Vec<JournalReport>,
    /// Journals of processes that live: these deliver them themselves.
    pub live: usize,
    /// Journals of what was refused, which wait for `rejected`.
    pub rejected: usize,
}

/// Delivers what dead processes left in the journals of this machine's user. `settings` are those of the clients to do it
/// with; each journal says itself which server and project it is for.
///
/// # Errors
/// [`Error::Io`] when the folder of the journals cannot be read, [`Error::Misuse`] when there is none, or when another server is
/// given for the journals of all.
pub async fn sync(settings: ClientBuilder, options: SyncOptions) -> Result<SyncReport> {
    if options.to.is_some() && options.url.is_none() {
        let why = "say which server has moved: give the address that the journals are for as well (--url)";
        return Err(Error::misuse(why));
    }
    let home = settings
        .clone()
        .build()?
        .journal_home()
        .ok_or_else(|| Error::misuse("there is no home folder; set MLPLAT_HOME"))?;
    if options.rejected {
        take_up_rejected(&home);
    }
    let url = match options.url {
        // In its normal form.
        Some(url) => Some(settings.clone().url(url).build()?.url().to_owned()),
        None => None,
    };
    let mut report = SyncReport::default();
    let here = Owner::this();
    for (folder, meta) in found(&folder::journals(&home)).map_err(|e| Error::io(&home, e))? {
        let of_others = url.as_ref().is_some_and(|url| *url != meta.url)
            || options
                .project
                .as_ref()
                .is_some_and(|name| *name != meta.project);
        if of_others {
            continue;
        }
        match state(&home, &folder, &meta, &here) {
            State::Alive => report.live += 1,
            state => {
                let mut silent = report.journals.iter();
                let silent = silent.rfind(|done| done.unreachable && done.url == meta.url);
                if let Some(left) = silent.and_then(|done| done.left.clone()) {
                    // Waiting for it once is enough.
                    let mut skipped = JournalReport::of(&folder, &meta);
                    (skipped.left, skipped.unreachable) = (Some(left), true);
                    report.journals.push(skipped);
                    continue;
                }
                let client = settings
                    .clone()
                    .url(options.to.as_deref().unwrap_or(&meta.url))
                    .project(&meta.project)
                    .without_journal()
                    .build()?;
                let delivered = deliver(client, &home, &folder, &meta, state, For::Itself);
                report.journals.push(delivered.await);
            }
        }
    }
    let rejected = found(&folder::rejected(&home)).unwrap_or_default();
    report.rejected = rejected.len();
    Ok(report)
}

/// Makes journals of what was refused.
fn take_up_rejected(home: &std::path::Path) {
    for (folder, _) in found(&folder::rejected(home)).unwrap_or_default() {
        let moved = folder.path().file_name().map(|name| {
            let journals = folder::journals(home);
            std::fs::create_dir_all(&journals)?;
            std::fs::rename(folder.path(), journals.join(name))
        });
        if let Some(Err(error)) = moved {
            tracing::warn!(%error, "what was refused cannot be tried again");
        }
    }
}

/// The journals in a folder, oldest first.
fn found(place: &std::path::Path) -> std::io::Result<Vec<(Folder, Meta)>> {
    let entries = match std::fs::read_dir(place) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut journals = Vec::new();
    for entry in entries {
        let folder = Folder::at(entry?.path());
        match folder.meta() {
            Ok(meta) => journals.push((folder, meta)),
            // Just being made or removed, or not ours.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) if folder.path().is_file() => drop(error),
            Err(error) => {
                super::notice::warn(&format!("{} is not read: {error}", folder.path().display()))
            }
        }
    }
    // Runs begin before what is nested in them, and before what other processes log to them.
    journals.sort_by_key(|(_, meta)| meta.writer);
    Ok(journals)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Alive,
    /// Certainly gone.
    Dead,
    /// Not heard of for a while; it may come back.
    Silent,
}

fn state(home: &std::path::Path, folder: &Folder, meta: &Meta, here: &Owner) -> State {
    // What was refused belongs to nobody.
    if meta.owner == Owner::default() {
        return State::Dead;
    }
    match meta.owner.is_alive(here) {
        // A program that has replaced itself (exec) is the same process, and knows nothing of the journal that it began.
        Some(true) if meta.owner == *here && !super::is_of_this_process(meta.writer) => {
            State::Silent
        }
        Some(true) => State::Alive,
        Some(false) => State::Dead,
        None => {
            let silence =
                Folder::file_time(home).and_then(|now| Ok(now.duration_since(folder.heard_of()?)));
            match silence {
                Ok(Ok(silence)) if silence > GONE => State::Dead,
                Ok(Ok(silence)) if silence > SILENT => State::Silent,
                _ => State::Alive,
            }
        }
    }
}

/// What a journal is delivered for.
#[derive(Clone, Copy)]
enum For<'a> {
    /// Nothing else.
    Itself,
    /// The same, but what this process has to deliver itself goes first.
    After(&'a Journal),
    /// Another one, which waits.
    Another,
}

/// Delivers one journal.
async fn deliver(
    client: Client,
    home: &std::path::Path,
    folder: &Folder,
    meta: &Meta,
    state: State,
    purpose: For<'_>,
) -> JournalReport {
    let mut report = JournalReport::of(folder, meta);
    let mut courier = Courier::new(
        client,
        meta.writer,
        Some(folder.clone()),
        Some(home.to_owned()),
        Manner::Found {
            give_up: GIVE_UP,
            age: meta.age(),
            for_another: matches!(purpose, For::Another),
        },
    );
    let mut reader = Reader::leftover(folder.clone(), state == State::Dead);
    let mut window = Window::default();
    loop {
        window.clear();
        while !window.is_full() {
            match reader.next(u64::MAX) {
                Ok(Some((numbered, definitions))) => window.push(&numbered, definitions),
                Ok(None) => break,
                Err(error) => {
                    report.left = Some(format!("it cannot be read: {error}"));
                    break;
                }
            }
        }
        if window.records == 0 {
            break;
        }
        if let For::After(own) = purpose {
            own.goes_first().await;
        }
        if let Err(GivenUp(error)) = courier.deliver(&window, &reader.definitions).await {
            report.left = Some(error.to_string());
            report.unreachable =
                matches!(error, Error::Unavailable(_) | Error::DeadlineExceeded(_));
            break;
        }
        report.records += window.records;
        report.points += window.points;
        let end = reader.position();
        if folder.exists() {
            note_acked(folder, end);
        }
        courier.remove_segments(&reader, end.segment);
    }
    report.rejected = courier.rejected();
    // Refused records are no process that could have been heard of.
    if report.left.is_none() && meta.owner != Owner::default() {
        courier.last_heartbeat().await;
    }
    if report.left.is_none() && state == State::Dead {
        courier.remove_segments(&reader, u64::MAX);
        folder.remove();
    }
    report
}

impl Journal {
    /// Waits while this process has something to deliver itself, for a while.
    async fn goes_first(&self) {
        for _ in 0..100 {
            let acked = self.shared.progress.borrow().acked;
            if acked >= self.shared.appended() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Delivers what dead processes left for the same server and project, now and then.
pub(super) async fn look_after(journal: Arc<Journal>, client: Client) {
    let Some(home) = journal.home.clone() else {
        return;
    };
    let mut progress = journal.shared.progress.subscribe();
    loop {
        // Where nothing of our own arrives, nothing of others would.
        let online = progress.wait_for(|now| now.attempts > 0 && now.trouble.is_none());
        if online.await.is_err() {
            return;
        }
        deliver_all(&client, &home, For::After(&journal), |_| true).await;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Delivers what dead processes left for a server and project, as far as it is wanted.
async fn deliver_all(
    client: &Client,
    home: &std::path::Path,
    purpose: For<'_>,
    wanted: impl Fn(&Meta) -> bool,
) {
    let here = Owner::this();
    for (folder, meta) in found(&folder::journals(home)).unwrap_or_default() {
        if meta.url != client.url() || meta.project != client.project() || !wanted(&meta) {
            continue;
        }
        let state = state(home, &folder, &meta, &here);
        if state != State::Alive {
            let report = deliver(client.clone(), home, &folder, &meta, state, purpose).await;
            tracing::debug!(?report, "delivered what a process left");
            if report.unreachable {
                return;
            }
        }
    }
}

/// Which journals go before another one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Others {
    /// Those that were begun before it.
    Older,
    /// All: clocks may have been set back.
    All,
}

/// Delivers what dead processes left, before the journal of this writer goes on.
pub(super) async fn deliver_others(
    client: &Client,
    home: &std::path::Path,
    writer: Uuid,
    others: Others,
) {
    let wanted = move |meta: &Meta| match others {
        Others::Older => meta.writer < writer,
        Others::All => meta.writer != writer,
    };
    // A journal that is delivered may wait for others itself.
    Box::pin(deliver_all(client, home, For::Another, wanted)).await;
}

/// Before a run is taken up again: delivers what its last process may have left, for a while. Else its end, say, would arrive
/// after the new beginning.
pub(crate) async fn deliver_before_resuming(client: &Client, limit: Duration) -> Result<()> {
    let Some(home) = client.journal_home() else {
        return Ok(());
    };
    let client = client.to_builder().without_journal().build()?;
    let work = deliver_all(&client, &home, For::Itself, |_| true);
    if tokio::time::timeout(limit, work).await.is_err() {
        tracing::debug!("what dead processes left is more than can be waited for");
    }
    Ok(())
}
