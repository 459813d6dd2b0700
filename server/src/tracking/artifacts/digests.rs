//! Digests of uploads in parts, computed behind the parts while the next ones are still on their way.
//!
//! Invariant: this only saves time. What is not here (after a restart, on another replica, in S3) is read when the upload ends.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use futures::StreamExt as _;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{app::App, error::Result, objects::stage::Stage};

/// Uploads that are followed at a time.
const MOST: usize = 1000;

/// The digest of the first parts of an upload.
#[derive(Debug, Default)]
pub(super) struct Prefix {
    digest: Sha256,
    /// How many parts, from the first on.
    parts: u32,
    /// Parts that were stored out of turn.
    waiting: std::collections::BTreeSet<u32>,
    /// A part that is in the digest was replaced: the digest is of no use.
    spoiled: bool,
}

impl Prefix {
    /// The digest so far, and the number of parts in it.
    pub(super) fn state(&self) -> (Sha256, u32) {
        if self.spoiled {
            (Sha256::new(), 0)
        } else {
            (self.digest.clone(), self.parts)
        }
    }
}

type Followed = Arc<tokio::sync::Mutex<Prefix>>;

/// The uploads that this server follows.
#[derive(Debug, Default, Clone)]
pub(super) struct Digests(Arc<Mutex<HashMap<Uuid, Followed>>>);

impl Digests {
    /// Goes on with the digest, after a part was stored; does not wait for it.
    pub(super) fn part_stored(&self, app: &Arc<App>, stage: &Stage, number: u32) {
        let followed = {
            let mut all = self.0.lock();
            if all.len() >= MOST && !all.contains_key(&stage.id) {
                // Mostly of uploads that were broken off and will not go on.
                all.clear();
            }
            Arc::clone(all.entry(stage.id).or_default())
        };
        let (app, stage, all) = (Arc::clone(app), stage.clone(), Arc::downgrade(&self.0));
        tokio::spawn(async move {
            let mut prefix = followed.lock().await;
            if let Err(error) = advance(&app, &stage, &mut prefix, number).await {
                tracing::debug!(%error, "a digest is left to the end of the upload");
                forget(&all, stage.id);
            }
        });
    }

    /// The digest of an upload as far as it is known, after what is under way; it is not followed any more.
    pub(super) async fn take(&self, id: Uuid) -> (Sha256, u32) {
        let followed = self.0.lock().remove(&id);
        match followed {
            Some(followed) => followed.lock().await.state(),
            None => (Sha256::new(), 0),
        }
    }
}

fn forget(all: &Weak<Mutex<HashMap<Uuid, Followed>>>, id: Uuid) {
    if let Some(all) = all.upgrade() {
        all.lock().remove(&id);
    }
}

async fn advance(app: &App, stage: &Stage, prefix: &mut Prefix, number: u32) -> Result<()> {
    if number <= prefix.parts {
        prefix.spoiled = true;
    }
    prefix.waiting.insert(number);
    while prefix.waiting.remove(&(prefix.parts + 1)) {
        let Some(mut bytes) = app.objects.read_part(stage, prefix.parts + 1).await? else {
            return Ok(());
        };
        while let Some(chunk) = bytes.next().await {
            prefix.digest.update(&chunk?);
            tokio::task::yield_now().await;
        }
        prefix.parts += 1;
    }
    Ok(())
}
