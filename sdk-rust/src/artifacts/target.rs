//! The local directory that a download goes into.
//!
//! Invariant: nothing is written outside of it. Directories below it are made one by one, and a symbolic link below it is
//! never followed; bytes go to a new file of a name that nobody can foresee, which is renamed over what is there.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use mlplat_proto::artifact_path;
use parking_lot::Mutex;
use uuid::Uuid;

use super::path;
use crate::error::{Error, Result};

/// A directory to download into. Blocking: call it off the async threads.
#[derive(Debug, Clone)]
pub(super) struct Target {
    root: PathBuf,
    /// Directories that are known to be real ones.
    made: Arc<Mutex<HashSet<PathBuf>>>,
}

/// A file under its temporary name; removed when dropped, unless it was given its real one.
#[derive(Debug)]
pub(super) struct Unfinished {
    temporary: PathBuf,
    target: PathBuf,
}

impl Target {
    /// The directory, made where it does not exist. It may be a link itself: that is what was asked for.
    pub(super) fn open(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).map_err(|e| Error::io(root, e))?;
        let root = root.canonicalize().map_err(|e| Error::io(root, e))?;
        Ok(Self {
            root,
            made: Arc::default(),
        })
    }

    /// Refuses files of which one would be written over another, as this file system does not tell upper from lower case.
    pub(super) fn refuse_collisions<'a>(&self, paths: impl Iterator<Item = &'a str>) -> Result<()> {
        let mut seen = std::collections::HashMap::new();
        for path in paths {
            let Some(other) = seen.insert(artifact_path::case_key(path), path) else {
                continue;
            };
            if self.ignores_case()? {
                return Err(Error::misuse(format!(
                    "`{other}` and `{path}` differ only in upper and lower case, and are one file in {}",
                    self.root.display()
                )));
            }
            return Ok(());
        }
        Ok(())
    }

    fn ignores_case(&self) -> Result<bool> {
        let name = Uuid::new_v4().simple();
        let probe = self.root.join(format!(".probe-{name}"));
        fs::File::create_new(&probe).map_err(|e| Error::io(&probe, e))?;
        let same = self.root.join(format!(".PROBE-{name}")).exists();
        // It is only a name, and empty.
        let _ = fs::remove_file(&probe);
        Ok(same)
    }

    /// A new file that will be the one at `relative`; its directory is made.
    pub(super) fn begin(&self, relative: &str) -> Result<(fs::File, Unfinished)> {
        let relative = path::checked_local(relative)?;
        let target = self.root.join(&relative);
        let folder = match relative.rsplit_once('/') {
            Some((folder, _)) => self.directory(folder)?,
            None => self.root.clone(),
        };
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        // Names may be as long as the file system allows, so only a part of it goes into the temporary one.
        let short: String = name.chars().take(40).collect();
        let temporary = folder.join(format!(".{short}.{}.part", Uuid::new_v4().simple()));
        // Never an existing file, nor through a link.
        let file = fs::File::create_new(&temporary).map_err(|e| Error::io(&temporary, e))?;
        Ok((file, Unfinished { temporary, target }))
    }

    fn directory(&self, relative: &str) -> Result<PathBuf> {
        let mut folder = self.root.clone();
        for part in relative.split('/') {
            folder.push(part);
            if self.made.lock().contains(&folder) {
                continue;
            }
            match fs::create_dir(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::io(&folder, error));
                }
                _ => {}
            }
            let kind = fs::symlink_metadata(&folder).map_err(|e| Error::io(&folder, e))?;
            if kind.is_symlink() {
                return Err(Error::misuse(format!(
                    "`{}` is a symbolic link, through which nothing is written; remove it, or choose another directory",
                    folder.display()
                )));
            }
            if !kind.is_dir() {
                return Err(Error::io(&folder, io::ErrorKind::NotADirectory.into()));
            }
            self.made.lock().insert(folder.clone());
        }
        Ok(folder)
    }

    #[cfg(test)]
    fn place(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }
}

impl Unfinished {
    /// Gives the file its name, in place of what had it before.
    pub(super) fn finish(self) -> Result<()> {
        fs::rename(&self.temporary, &self.target).map_err(|e| Error::io(&self.target, e))
    }

    pub(super) fn path(&self) -> &Path {
        &self.target
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Gone already when it was renamed.
        let _ = fs::remove_file(&self.temporary);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn write(target: &Target, path: &str, content: &str) -> Result<()> {
        let (mut file, unfinished) = target.begin(path)?;
        file.write_all(content.as_bytes()).unwrap();
        unfinished.finish()
    }

    #[test]
    fn files_get_their_names_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::open(&dir.path().join("new/into")).unwrap();
        write(&target, "a/b/c", "1").unwrap();
        write(&target, "a/b/c", "2").unwrap();
        assert_eq!(fs::read_to_string(target.place("a/b/c")).unwrap(), "2");
        drop(target.begin("a/b/d").unwrap());
        assert_eq!(fs::read_dir(target.place("a/b")).unwrap().count(), 1);
        for bad in ["..", "../x", "a/../../x", "/x", ""] {
            assert!(target.begin(bad).is_err(), "{bad}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn no_link_is_followed() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let (outside, into) = (dir.path().join("outside"), dir.path().join("into"));
        fs::create_dir_all(&outside).unwrap();
        fs::create_dir_all(&into).unwrap();
        fs::write(outside.join("file"), "kept").unwrap();
        symlink(&outside, into.join("folder")).unwrap();
        symlink(outside.join("file"), into.join("file")).unwrap();
        let target = Target::open(&into).unwrap();
        let refused = write(&target, "folder/x", "evil").unwrap_err();
        assert!(refused.to_string().contains("symbolic link"), "{refused}");
        assert!(write(&target, "file/x", "evil").is_err());
        // A link at the place of the file itself is replaced.
        write(&target, "file", "new").unwrap();
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "kept");
        assert_eq!(fs::read_to_string(into.join("file")).unwrap(), "new");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }

    #[test]
    fn files_of_one_name_are_refused_where_they_would_be_one() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::open(dir.path()).unwrap();
        let clash = target.refuse_collisions(["a/B", "a/b"].into_iter());
        assert_eq!(clash.is_err(), target.ignores_case().unwrap());
        target.refuse_collisions(["a", "b"].into_iter()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
