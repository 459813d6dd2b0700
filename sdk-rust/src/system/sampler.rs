//! One look at the counters of the operating system.
//!
//! Invariant: rates are what happened since the look before; the limits of a container count as those of the machine.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::PathBuf,
    time::{Duration, Instant},
};

use sysinfo::{
    DiskRefreshKind, Disks, Networks, Pid, ProcessRefreshKind, ProcessesToUpdate, System,
};

use super::gpu::Gpus;
use crate::tracking::MetricPoint;

const MB: f64 = 1e6;

pub(super) struct Sampler {
    system: Option<System>,
    networks: Option<Networks>,
    disks: Option<Disks>,
    gpus: Option<Gpus>,
    process: Option<Pid>,
    /// Where the process works: the disk that matters to it.
    directory: PathBuf,
    last: Instant,
}

impl Sampler {
    pub(super) fn new(every: Duration) -> Self {
        // No disk is asked for its space here: a network disk that does not answer would hold up the rest.
        let io = DiskRefreshKind::nothing().with_io_usage();
        let mut sampler = Self {
            system: System::new().ok(),
            networks: Networks::new_with_refreshed_list().ok(),
            disks: Disks::new_with_refreshed_list_specifics(io).ok(),
            gpus: Gpus::watch(every),
            process: sysinfo::get_current_pid().ok(),
            directory: std::env::current_dir().unwrap_or_default(),
            last: Instant::now(),
        };
        // Usage is a difference, so there has to be a first look.
        let _ = sampler.sample();
        sampler
    }

    pub(super) fn sample(&mut self) -> Vec<MetricPoint> {
        let seconds = self.last.elapsed().as_secs_f64().max(1e-3);
        self.last = Instant::now();
        let mut readings = Vec::with_capacity(16);
        self.processor_and_memory(&mut readings);
        self.disk(seconds, &mut readings);
        self.network(seconds, &mut readings);
        if let Some(gpus) = &self.gpus {
            gpus.readings(&mut readings);
        }
        readings
            .into_iter()
            .filter(|(_, value)| value.is_finite())
            .map(|(name, value)| MetricPoint::new(format!("system/{name}"), value))
            .collect()
    }

    fn processor_and_memory(&mut self, readings: &mut Vec<(String, f64)>) {
        let Some(system) = &mut self.system else {
            return;
        };
        system.refresh_cpu_usage();
        system.refresh_memory();
        readings.push(("cpu_percent".into(), f64::from(system.global_cpu_usage())));
        let (mut total, mut used) = (system.total_memory(), system.used_memory());
        if let Some(limit) = system.cgroup_limits()
            && limit.total_memory > 0
            && limit.total_memory < total
        {
            total = limit.total_memory;
            used = total.saturating_sub(limit.free_memory);
        }
        readings.push(("memory_percent".into(), percent(used, total)));
        readings.push(("memory_used_mb".into(), used as f64 / MB));
        let Some(pid) = self.process else {
            return;
        };
        let kind = ProcessRefreshKind::nothing().with_cpu().with_memory();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, kind);
        if let Some(process) = system.process(pid) {
            // 100 is one core.
            readings.push(("process_cpu_percent".into(), process.cpu_usage().into()));
            readings.push(("process_rss_mb".into(), process.memory() as f64 / MB));
        }
    }

    fn disk(&mut self, seconds: f64, readings: &mut Vec<(String, f64)>) {
        let Some(disks) = &mut self.disks else {
            return;
        };
        // One device may be mounted in several places.
        let mut moved: BTreeMap<OsString, (u64, u64)> = BTreeMap::new();
        for disk in disks.iter_mut() {
            disk.refresh_specifics(DiskRefreshKind::nothing().with_io_usage());
            let usage = disk.usage();
            let bytes = (usage.read_bytes, usage.written_bytes);
            moved.insert(disk.name().to_owned(), bytes);
        }
        let (read, written) = moved
            .values()
            .fold((0, 0), |(r, w), (read, written)| (r + read, w + written));
        readings.push(("disk_read_mb_per_s".into(), read as f64 / MB / seconds));
        readings.push(("disk_write_mb_per_s".into(), written as f64 / MB / seconds));
        let directory = &self.directory;
        let here = disks.iter_mut();
        let here = here
            .filter(|disk| directory.starts_with(disk.mount_point()))
            .max_by_key(|disk| disk.mount_point().as_os_str().len());
        if let Some(disk) = here {
            disk.refresh_specifics(DiskRefreshKind::nothing().with_storage());
            let total = disk.total_space();
            let used = total.saturating_sub(disk.available_space());
            readings.push(("disk_percent".into(), percent(used, total)));
        }
    }

    fn network(&mut self, seconds: f64, readings: &mut Vec<(String, f64)>) {
        let Some(networks) = &mut self.networks else {
            return;
        };
        networks.refresh(true);
        let (mut received, mut sent) = (0, 0);
        for (name, data) in networks.iter() {
            // Not what the machine says to itself.
            if name != "lo" && name != "lo0" {
                received += data.received();
                sent += data.transmitted();
            }
        }
        let rate = |bytes: u64| bytes as f64 / MB / seconds;
        readings.push(("network_received_mb_per_s".into(), rate(received)));
        readings.push(("network_sent_mb_per_s".into(), rate(sent)));
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    // Not a number where nothing is known, and left out then.
    100.0 * part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_plausible_values() {
        let mut sampler = Sampler::new(Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(250));
        let points = sampler.sample();
        let value = |key: &str| {
            let found = points.iter().find(|p| p.key == format!("system/{key}"));
            found.unwrap_or_else(|| panic!("no {key}")).value
        };
        assert!((0.0..=100.0).contains(&value("cpu_percent")));
        assert!((0.1..=100.0).contains(&value("memory_percent")));
        assert!(value("process_rss_mb") > 1.0);
        assert!(value("network_received_mb_per_s") >= 0.0);
        assert!(points.iter().all(|p| p.step.is_none()));
    }

    #[test]
    fn unknown_totals_are_left_out() {
        assert!(percent(1, 0).is_infinite());
        assert!(percent(0, 0).is_nan());
        assert_eq!(percent(1, 4), 25.0);
    }
}
