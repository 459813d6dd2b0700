//! A run with the runs nested in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{Run, RunQuery, Tracking};
use crate::error::{Error, Result};

/// Ids in one filter; the server takes 1,000 values.
const IDS: usize = 400;
/// Most runs of a tree.
const MAX_RUNS: usize = 10_000;

/// A run and the runs nested in it, oldest first. Shown as a tree.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RunTree {
    /// The run.
    pub run: Run,
    /// The runs nested in it, with theirs.
    pub children: Vec<RunTree>,
}

impl RunTree {
    fn build(run: Run, below: &mut BTreeMap<String, Vec<Run>>) -> Self {
        let children = below.remove(&run.id).unwrap_or_default();
        let children = children.into_iter().map(|run| Self::build(run, below));
        Self {
            children: children.collect(),
            run,
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, indent: &str) -> fmt::Result {
        for (at, child) in self.children.iter().enumerate() {
            let is_last = at + 1 == self.children.len();
            let (branch, rest) = if is_last {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            writeln!(f, "{indent}{branch}{}", line(&child.run))?;
            child.write(f, &format!("{indent}{rest}"))?;
        }
        Ok(())
    }
}

fn line(run: &Run) -> String {
    let metrics: Vec<String> = run
        .metrics
        .iter()
        .map(|(key, metric)| format!("{key}={}", metric.last_value))
        .collect();
    format!(
        "{} {} {}  {}",
        run.name,
        run.status,
        run.id,
        metrics.join(", ")
    )
    .trim_end()
    .to_owned()
}

impl fmt::Display for RunTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", line(&self.run))?;
        self.write(f, "")
    }
}

impl Tracking {
    /// The runs nested in a run, directly, oldest first.
    ///
    /// # Errors
    /// [`Error::Misuse`] when the id is no UUID.
    pub async fn child_runs(&self, run_id: &str) -> Result<Vec<Run>> {
        let id = super::checked_run_id(run_id)?;
        self.nested_in(&[id]).await
    }

    /// A run with all runs nested in it, at any depth.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such run, [`Error::Misuse`] when more than 10,000 runs are nested in it.
    pub async fn run_tree(&self, run_id: &str) -> Result<RunTree> {
        let root = self.get_run(run_id).await?;
        let mut below: BTreeMap<String, Vec<Run>> = BTreeMap::new();
        let mut seen = BTreeSet::from([root.id.clone()]);
        let mut level = vec![root.id.clone()];
        while !level.is_empty() {
            let mut next = Vec::new();
            for ids in level.chunks(IDS) {
                for run in self.nested_in(ids).await? {
                    // No server lets runs be nested in a circle, but a tree must end whatever it says.
                    if seen.insert(run.id.clone()) {
                        next.push(run.id.clone());
                        let parent = run.parent_run_id.clone().unwrap_or_default();
                        below.entry(parent).or_default().push(run);
                    }
                }
            }
            if seen.len() > MAX_RUNS {
                let text = format!("more than {MAX_RUNS} runs are nested in run {run_id}");
                return Err(Error::misuse(text));
            }
            level = next;
        }
        Ok(RunTree::build(root, &mut below))
    }

    async fn nested_in(&self, ids: &[String]) -> Result<Vec<Run>> {
        let list: Vec<String> = ids.iter().map(|id| format!("'{id}'")).collect();
        let query = RunQuery::new()
            .filter(format!("parent_run_id IN ({})", list.join(", ")))
            .order_by("started_at ASC")
            .order_by("run_id ASC")
            .page_size(1000);
        self.search_runs(query).collect(None).await
    }
}
