//! What lies in a local directory, as a list of files with the paths they get in the run; and the digests of files.
//!
//! Invariant: nothing outside of the directory is read. A symbolic link that leads out of it, a dangling one, a link to a
//! directory, and what is neither file nor directory is left out and reported. What blocks is called off the async threads.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{path, upload_many::interrupted};
use crate::error::{Error, Result};

/// Most files of one upload.
const MAX_FILES: usize = 100_000;
/// Deepest nesting of directories.
const MAX_DEPTH: usize = 128;
/// Bytes read at once.
pub(super) const BUFFER_BYTES: usize = 1 << 20;

/// A local file to upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LocalFile {
    /// Where it is.
    pub(super) local: PathBuf,
    /// Its path inside the run.
    pub(super) path: String,
    /// Size when it was found.
    pub(super) size_bytes: u64,
    /// SHA-256 in hexadecimal digits, where it is known already.
    pub(super) sha256: Option<String>,
}

/// Something in a directory that was not uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skipped {
    /// What it is.
    pub local: PathBuf,
    /// Why it was left out.
    pub why: String,
}

/// The file, or all files below the directory, by path. A directory without files is an error, for
/// there would be nothing to find again.
pub(super) fn scan(local: &Path, directory: &str) -> Result<(Vec<LocalFile>, Vec<Skipped>)> {
    let root = local.canonicalize().map_err(|e| Error::io(local, e))?;
    // The name as given, not that of a link's target; `.` and `..` only have one once resolved.
    let name = path::file_name(local).or_else(|_| path::file_name(&root))?;
    let top = path::joined(directory, &name)?;
    let kind = fs::metadata(&root).map_err(|e| Error::io(&root, e))?;
    if kind.is_file() {
        return Ok((vec![found(root, top)?], Vec::new()));
    }
    if !kind.is_dir() {
        return Err(Error::misuse(format!(
            "`{}` is neither a file nor a directory",
            local.display()
        )));
    }
    let mut walk = Walk {
        root: root.clone(),
        files: Vec::new(),
        skipped: Vec::new(),
    };
    walk.directory(&root, &top, 0)?;
    if walk.files.is_empty() {
        return Err(Error::misuse(format!(
            "`{}` has no files to upload",
            local.display()
        )));
    }
    walk.files.sort_by(|a, b| a.path.cmp(&b.path));
    // Two spellings of one name, composed and not.
    if let Some(twice) = walk.files.windows(2).find(|two| two[0].path == two[1].path) {
        return Err(Error::misuse(format!(
            "`{}` and `{}` have the same name, but for the way it is encoded",
            twice[0].local.display(),
            twice[1].local.display()
        )));
    }
    Ok((walk.files, walk.skipped))
}

struct Walk {
    root: PathBuf,
    files: Vec<LocalFile>,
    skipped: Vec<Skipped>,
}

impl Walk {
    fn directory(&mut self, local: &Path, path: &str, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::misuse(format!(
                "`{}` is nested deeper than {MAX_DEPTH} directories",
                local.display()
            )));
        }
        let entries = fs::read_dir(local).map_err(|e| Error::io(local, e))?;
        let mut entries = entries
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| Error::io(local, e))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (local, kind) = (
                entry.path(),
                entry.file_type().map_err(|e| Error::io(&entry.path(), e))?,
            );
            let path = path::joined(path, &path::file_name(&local)?)?;
            if kind.is_dir() {
                self.directory(&local, &path, depth + 1)?;
            } else if kind.is_file() {
                self.file(local, path)?;
            } else if kind.is_symlink() {
                self.link(local, path)?;
            } else {
                self.skip(local, "it is neither a file nor a directory");
            }
        }
        Ok(())
    }

    fn link(&mut self, local: PathBuf, path: String) -> Result<()> {
        let Ok(target) = local.canonicalize() else {
            self.skip(local, "it is a symbolic link to nothing");
            return Ok(());
        };
        if !target.starts_with(&self.root) {
            self.skip(
                local,
                "it is a symbolic link that leads out of the directory",
            );
        } else if target.is_file() {
            self.file(target, path)?;
        } else {
            self.skip(
                local,
                "it is a symbolic link to a directory, whose files are uploaded where they are",
            );
        }
        Ok(())
    }

    fn file(&mut self, local: PathBuf, path: String) -> Result<()> {
        if self.files.len() >= MAX_FILES {
            let root = self.root.display();
            return Err(Error::misuse(format!(
                "`{root}` has more than {MAX_FILES} files; upload an archive of it"
            )));
        }
        self.files.push(found(local, path)?);
        Ok(())
    }

    fn skip(&mut self, local: PathBuf, why: &str) {
        tracing::warn!(path = %local.display(), why, "not uploaded");
        self.skipped.push(Skipped {
            local,
            why: why.to_owned(),
        });
    }
}

fn found(local: PathBuf, path: String) -> Result<LocalFile> {
    let size_bytes = fs::metadata(&local)
        .map_err(|e| Error::io(&local, e))?
        .len();
    Ok(LocalFile {
        local,
        path,
        size_bytes,
        sha256: None,
    })
}

/// Reads the file once, in bounded memory, for its size and digest.
pub(super) fn hash(local: &Path) -> Result<(u64, String)> {
    let mut file = File::open(local).map_err(|e| Error::io(local, e))?;
    let (mut digest, mut size_bytes) = (Sha256::new(), 0_u64);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((size_bytes, hex::encode(digest.finalize()))),
            Ok(read) => {
                digest.update(&buffer[..read]);
                size_bytes += read as u64;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io(local, e)),
        }
    }
}

/// The file with its digest, read off the async threads where it is not known.
pub(super) async fn hashed(mut file: LocalFile) -> Result<LocalFile> {
    if file.sha256.is_some() {
        return Ok(file);
    }
    let local = file.local.clone();
    let (size_bytes, sha256) = tokio::task::spawn_blocking(move || hash(&local))
        .await
        .map_err(interrupted)??;
    (file.size_bytes, file.sha256) = (size_bytes, Some(sha256));
    Ok(file)
}

impl LocalFile {
    /// A name of this state of this file, that is another one when it was written to.
    pub(super) fn source(&self) -> String {
        let modified = fs::metadata(&self.local).and_then(|file| file.modified());
        let modified = modified
            .ok()
            .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
            .unwrap_or_default();
        let state = format!(
            "{}\0{}\0{}",
            self.local.display(),
            self.size_bytes,
            modified.as_nanos()
        );
        hex::encode(Sha256::digest(state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(files: &[LocalFile]) -> Vec<&str> {
        files.iter().map(|f| f.path.as_str()).collect()
    }

    #[test]
    fn a_file_keeps_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("model.pkl");
        fs::write(&file, "abc").unwrap();
        let (files, skipped) = scan(&file, "models").unwrap();
        assert_eq!(paths(&files), ["models/model.pkl"]);
        assert_eq!(files[0].size_bytes, 3);
        assert_eq!(
            hash(&files[0].local).unwrap().1,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(skipped.is_empty());
    }

    #[test]
    fn a_directory_is_walked_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("out");
        fs::create_dir_all(root.join("sub/deep")).unwrap();
        fs::write(root.join("b"), "b").unwrap();
        fs::write(root.join("sub/deep/a"), "").unwrap();
        let (files, _) = scan(&root, "").unwrap();
        assert_eq!(paths(&files), ["out/b", "out/sub/deep/a"]);
        assert!(scan(&root, "../up").is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn two_spellings_of_a_name_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["u\u{308}", "v", "ü"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let refused = scan(dir.path(), "").unwrap_err();
        assert!(refused.to_string().contains("same name"), "{refused}");
    }

    #[cfg(unix)]
    #[test]
    fn links_that_lead_out_are_left_out() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("out");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(dir.path().join("secret"), "s").unwrap();
        fs::write(root.join("real"), "r").unwrap();
        symlink(dir.path().join("secret"), root.join("escape")).unwrap();
        symlink("../secret", root.join("relative")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        symlink("real", root.join("inside")).unwrap();
        symlink(&root, root.join("sub/loop")).unwrap();
        let (files, skipped) = scan(&root, "").unwrap();
        assert_eq!(paths(&files), ["out/inside", "out/real"]);
        assert_eq!(skipped.len(), 4);
        assert!(files.iter().all(|f| {
            f.local
                .starts_with(dir.path().canonicalize().unwrap().join("out"))
        }));
    }

    #[test]
    fn nothing_to_upload_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(scan(dir.path(), ""), Err(Error::Misuse(_))));
        assert!(matches!(
            scan(&dir.path().join("none"), ""),
            Err(Error::Io(..))
        ));
    }
}
