//! What people must hear although nobody waits for an answer: lines on stderr.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

/// Says it.
pub(super) fn warn(text: &str) {
    // A closed stderr is no reason to fail.
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("mlplat: {text}\n"));
    tracing::debug!("{text}");
}

/// Says each kind of thing once.
#[derive(Debug, Default)]
pub(super) struct Once(Mutex<HashSet<String>>);

impl Once {
    pub(super) fn warn(&self, kind: &str, text: impl FnOnce() -> String) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.insert(kind.to_owned()) {
            warn(&text());
        }
    }
}
