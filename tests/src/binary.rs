//! The real `mlplat-server` in a process of its own, for what only a process shows: kill -9, signals, memory.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// A server process. It is killed when this is dropped.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    url: String,
}

/// Where the binary is: `MLPLAT_TEST_SERVER_BIN`, else beside the folder of this test's own binary.
pub fn path() -> PathBuf {
    if let Some(path) = std::env::var_os("MLPLAT_TEST_SERVER_BIN") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().expect("the path of this test");
    test.parent()
        .and_then(Path::parent)
        .expect("the target folder")
        .join("mlplat-server")
}

impl ServerProcess {
    /// Starts it on the data folder, with more flags, and waits until it is ready.
    pub fn start(data_dir: &Path, flags: &[&str]) -> Self {
        Self::start_with(data_dir, flags, &[])
    }

    /// As [`ServerProcess::start`], with environment variables.
    pub fn start_with(data_dir: &Path, flags: &[&str], environment: &[(&str, &str)]) -> Self {
        // On a port of its own, unless one is asked for.
        let listen: &[&str] = match flags.contains(&"--listen") {
            true => &[],
            false => &["--listen", "127.0.0.1:0"],
        };
        let mut child = Command::new(path())
            .envs(environment.iter().copied())
            .args(listen)
            .arg("--data-dir")
            .arg(data_dir)
            .args(flags)
            .current_dir(data_dir.parent().expect("a parent"))
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("mlplat-server is built (cargo build --workspace)");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output"))
            .read_line(&mut line)
            .expect("a line");
        let url = line
            .split_whitespace()
            .last()
            .expect("the address in the first line")
            .to_owned();
        Self { child, url }
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM, and how it ended; panics when it takes longer than `limit`.
    pub fn terminate(mut self, limit: Duration) -> ExitStatus {
        let sent = Command::new("kill")
            .args(["-TERM", &self.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(sent.success());
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("its state") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the server did not end within {limit:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
