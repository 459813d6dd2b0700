//! The folder of a journal: `$MLPLAT_HOME/journal/<writer>/` with `meta.json`, the segments `000001.seg` …, `acked`, `alive`
//! and `spool/`.
//!
//! Invariant: a folder is written by one process and removed when all in it is delivered; whoever else reads it changes
//! only `acked`, which is no more than advice. No locks: network file systems have none that can be relied on.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{frame, owner::Owner, record::FORMAT};

const META: &str = "meta.json";
const ACKED: &str = "acked";
const ALIVE: &str = "alive";
const SPOOL: &str = "spool";

/// Where journals are kept: `MLPLAT_HOME`, else `~/.mlplat`.
pub(crate) fn default_home() -> Option<PathBuf> {
    match std::env::var_os("MLPLAT_HOME") {
        Some(home) if !home.is_empty() => Some(PathBuf::from(home)),
        _ => std::env::home_dir().map(|home| home.join(".mlplat")),
    }
}

/// The journals below a home.
pub(super) fn journals(home: &Path) -> PathBuf {
    home.join("journal")
}

/// What the server refused for good, below a home.
pub(super) fn rejected(home: &Path) -> PathBuf {
    home.join("rejected")
}

/// What a journal says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) format: u64,
    pub(super) writer: Uuid,
    pub(super) url: String,
    pub(super) project: String,
    pub(super) owner: Owner,
    /// Seconds since 1970.
    pub(super) created: u64,
}

impl Meta {
    pub(super) fn new(writer: Uuid, url: &str, project: &str, owner: Owner) -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            format: FORMAT,
            writer,
            url: url.to_owned(),
            project: project.to_owned(),
            owner,
            created: since.unwrap_or_default().as_secs(),
        }
    }
}

impl Meta {
    /// How old the journal is, by the clock of this machine.
    pub(super) fn age(&self) -> Duration {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.unwrap_or_default()
            .saturating_sub(Duration::from_secs(self.created))
    }
}

/// Up to where a journal is delivered: everything before `offset` of `segment`, which are the records up to `number`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Position {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) number: u64,
}

/// The folder of one journal.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder and its description, where they are not there.
    pub(super) fn create(&self, meta: &Meta) -> io::Result<()> {
        if self.exists() {
            return Ok(());
        }
        create_private(&self.path)?;
        let text = serde_json::to_vec_pretty(meta).map_err(io::Error::other)?;
        // Whoever looks for leftovers sees all of it or nothing.
        let unfinished = self.path.join("meta.json.new");
        fs::write(&unfinished, text)?;
        fs::rename(unfinished, self.path.join(META))?;
        self.touch()
    }

    pub(super) fn exists(&self) -> bool {
        self.path.join(META).exists()
    }

    pub(super) fn meta(&self) -> io::Result<Meta> {
        let text = fs::read(self.path.join(META))?;
        let meta: Meta = serde_json::from_slice(&text).map_err(io::Error::other)?;
        if meta.format > FORMAT {
            return Err(io::Error::other(format!(
                "it is in format {}, and this version of mlplat knows formats up to {FORMAT}; update mlplat",
                meta.format
            )));
        }
        Ok(meta)
    }

    pub(super) fn segment(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number:06}.seg"))
    }

    /// Numbers of the segments that are there, in order.
    pub(super) fn segments(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_suffix(".seg")?.parse::<u64>().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Removes a segment that is delivered, and says how many bytes that gave back.
    pub(super) fn remove_segment(&self, number: u64) -> u64 {
        let path = self.segment(number);
        let size = fs::metadata(&path).map_or(0, |found| found.len());
        match fs::remove_file(path) {
            Ok(()) => size,
            Err(_) => 0,
        }
    }

    /// Removes all that is there. Others may have done so too.
    pub(super) fn remove(&self) {
        // Without its description it is no journal any more, so this comes first.
        let _ = fs::remove_file(self.path.join(META));
        if let Err(error) = fs::remove_dir_all(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, path = %self.path.display(), "a delivered journal stays");
        }
    }

    /// Says that the process lives, to other machines.
    pub(super) fn touch(&self) -> io::Result<()> {
        fs::write(self.path.join(ALIVE), [])
    }

    /// When the process last said that it lives.
    pub(super) fn heard_of(&self) -> io::Result<SystemTime> {
        fs::metadata(self.path.join(ALIVE))?.modified()
    }

    /// The time of the file system that the folder is on, by which the above is measured.
    pub(super) fn file_time(home: &Path) -> io::Result<SystemTime> {
        let path = journals(home).join(format!(".clock-{}", Uuid::now_v7()));
        fs::write(&path, [])?;
        let time = fs::metadata(&path).and_then(|found| found.modified());
        fs::remove_file(&path)?;
        time
    }

    /// Opens the note of what is delivered, to write.
    pub(super) fn open_acked(&self) -> io::Result<File> {
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.path.join(ACKED))
    }

    /// What the note says; the beginning where it is missing or torn, which only costs time.
    pub(super) fn acked(&self) -> Position {
        let read = || {
            let bytes = fs::read(self.path.join(ACKED)).ok()?;
            let mut fields = frame::Fields(frame::parse(&bytes).ok()?.payload);
            let mut next = || Some(fields.i64()?.cast_unsigned());
            Some(Position {
                segment: next()?,
                offset: next()?,
                number: next()?,
            })
        };
        read().unwrap_or_default()
    }

    /// The place of a file that is uploaded later; it keeps its name.
    pub(super) fn spooled(&self, name: &str) -> PathBuf {
        self.path.join(SPOOL).join(name)
    }

    /// A new place for such a file: what to call it, and where it is.
    pub(super) fn new_spooled(&self, file_name: &str) -> io::Result<(String, PathBuf)> {
        let name = format!("{}/{file_name}", Uuid::now_v7().simple());
        let path = self.spooled(&name);
        if let Some(parent) = path.parent() {
            create_private(parent)?;
        }
        Ok((name, path))
    }
}

/// The bytes of the note of what is delivered.
pub(super) fn acked_bytes(position: Position) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(40);
    frame::append(&mut bytes, 1, |buffer| {
        for number in [position.segment, position.offset, position.number] {
            buffer.extend_from_slice(&number.to_le_bytes());
        }
    });
    bytes
}

/// Writes the note.
pub(super) fn write_acked(file: &mut File, position: Position) -> io::Result<()> {
    use std::io::Seek as _;
    file.rewind()?;
    file.write_all(&acked_bytes(position))
}

/// Makes folders that only their owner can look into: what is logged may be secret.
fn create_private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_tells_what_was_put_into_it() {
        let home = tempfile::tempdir().expect("a folder");
        let folder = Folder::at(journals(home.path()).join("w"));
        let meta = Meta::new(Uuid::now_v7(), "http://x", "p", Owner::this());
        folder.create(&meta).expect("made");
        folder.create(&meta).expect("there already");
        let found = folder.meta().expect("read");
        assert_eq!((found.writer, &found.owner), (meta.writer, &meta.owner));
        assert_eq!(folder.acked(), Position::default());
        let position = Position {
            segment: 3,
            offset: 70_000,
            number: u64::MAX,
        };
        write_acked(&mut folder.open_acked().expect("open"), position).expect("written");
        assert_eq!(folder.acked(), position);
        fs::write(folder.segment(12), b"abc").expect("written");
        fs::write(folder.segment(2), b"").expect("written");
        assert_eq!(folder.segments().expect("listed"), [2, 12]);
        assert_eq!(folder.remove_segment(12), 3);
        assert!(Folder::file_time(home.path()).is_ok() && folder.heard_of().is_ok());
        folder.remove();
        assert!(!folder.path().exists());
    }
}
