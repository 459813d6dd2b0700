//! Which process a journal belongs to, and whether that one still lives.
//!
//! Invariant: "dead" is said only where it is certain: on the same boot of the same machine, in the same namespace of
//! process ids, the process is gone or is another one. For all others there is no answer here; how long they have been
//! silent must tell.

use std::fs;

use serde::{Deserialize, Serialize};

/// A process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    pub(super) host: String,
    /// Id of this start of the machine; empty where there is none.
    boot: String,
    /// Namespace of process ids: containers of one machine may use the same ones.
    namespace: String,
    pub(super) pid: u32,
    /// When it started, in ticks since the machine did.
    started: String,
}

impl Owner {
    /// This process.
    pub(super) fn this() -> Self {
        let pid = std::process::id();
        Self {
            host: host(),
            boot: line("/proc/sys/kernel/random/boot_id"),
            namespace: fs::read_link("/proc/self/ns/pid")
                .map(|link| link.to_string_lossy().into_owned())
                .unwrap_or_default(),
            pid,
            started: start_of(pid).unwrap_or_default(),
        }
    }

    /// Whether it lives; `None` where that cannot be seen from `here`.
    pub(super) fn is_alive(&self, here: &Self) -> Option<bool> {
        if self.host != here.host || here.boot.is_empty() || self.started.is_empty() {
            return None;
        }
        if self.boot != here.boot {
            // A name may be used by two machines; the same one may have been started again.
            return None;
        }
        if self.namespace != here.namespace {
            return None;
        }
        Some(start_of(self.pid).is_some_and(|started| started == self.started))
    }
}

fn line(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| String::new(), |text| text.trim().to_owned())
}

fn host() -> String {
    let name = line("/proc/sys/kernel/hostname");
    if !name.is_empty() {
        return name;
    }
    let variable = |name| std::env::var(name).ok();
    variable("HOSTNAME")
        .or_else(|| variable("COMPUTERNAME"))
        .unwrap_or_default()
}

/// When a process started; `None` when there is none. A zombie is dead: it will not write any more.
fn start_of(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses, and may hold anything; the third is the state, the 22nd the start.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18).map(str::to_owned)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn processes_are_told_apart() {
        let this = Owner::this();
        assert_eq!(this.is_alive(&this), Some(true));
        let reused = Owner {
            started: "1".to_owned(),
            ..this.clone()
        };
        assert_eq!(reused.is_alive(&this), Some(false));
        let gone = Owner {
            pid: u32::MAX,
            ..this.clone()
        };
        assert_eq!(gone.is_alive(&this), Some(false));
        let elsewhere = Owner {
            namespace: "pid:[1]".to_owned(),
            ..gone
        };
        assert_eq!(elsewhere.is_alive(&this), None);
    }
}
