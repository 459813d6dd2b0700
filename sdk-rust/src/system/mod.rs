//! Measurements of the machine while a run is under way, logged as metrics `system/…`: processor, memory, disk, network,
//! this process, and NVIDIA GPUs where there are some.
//!
//! Invariant: sampling never fails a run and never waits for one; what cannot be measured is left out. A sample takes well
//! under a millisecond of processor time, so that the default of one in ten seconds is far below 0.1 % of one core.

mod gpu;
mod sampler;

use std::time::Duration;

use tokio::{
    runtime::Handle,
    task::AbortHandle,
    time::{Instant, MissedTickBehavior},
};

use crate::{
    error::{Error, Result},
    tracking::ActiveRun,
};
use sampler::Sampler;

/// Time between two samples unless another one is asked for.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);
/// Usage of a processor needs some time to be measured in.
const MIN_INTERVAL: Duration = Duration::from_millis(200);

/// Sampling that goes on until this is dropped.
#[derive(Debug)]
#[must_use = "sampling ends when this is dropped"]
pub struct SystemMetrics(AbortHandle);

impl SystemMetrics {
    /// Ends the sampling; the same as dropping it.
    pub fn stop(self) {}
}

impl Drop for SystemMetrics {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ActiveRun {
    /// Logs measurements of the machine to this run from now on, the first one after `every`, so that short runs stay
    /// free of them. The steps count the samples.
    ///
    /// # Errors
    /// [`Error::Misuse`] outside of a Tokio runtime, or for an interval under 0.2 s.
    pub fn log_system_metrics(&self, every: Duration) -> Result<SystemMetrics> {
        if every < MIN_INTERVAL {
            return Err(Error::misuse(format!(
                "system metrics every {every:?}: give at least {MIN_INTERVAL:?}"
            )));
        }
        let runtime = Handle::try_current()
            .map_err(|_| Error::misuse("system metrics are logged from within a Tokio runtime"))?;
        let task = runtime.spawn(sample(self.clone(), every));
        Ok(SystemMetrics(task.abort_handle()))
    }
}

async fn sample(run: ActiveRun, every: Duration) {
    // Reading the counters is file I/O, so it stays off the async threads.
    let Ok(mut sampler) = tokio::task::spawn_blocking(move || Sampler::new(every)).await else {
        return;
    };
    let mut tick = tokio::time::interval_at(Instant::now() + every, every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let sampled = tokio::task::spawn_blocking(move || {
            let points = sampler.sample();
            (sampler, points)
        });
        let Ok((again, points)) = sampled.await else {
            return;
        };
        sampler = again;
        if let Err(error) = run.log_metrics(points) {
            tracing::debug!(%error, run = run.id(), "system metrics were not logged");
        }
    }
}
