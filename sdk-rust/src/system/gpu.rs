//! NVIDIA GPUs, through one `nvidia-smi` that stays and reports at every interval.
//!
//! Invariant: where there is no `nvidia-smi` nothing is started; the one that was started ends with its watcher. Values
//! that a GPU does not know are left out.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

/// The columns asked for, and what they are called here.
const COLUMNS: [(&str, &str); 6] = [
    ("index", ""),
    ("utilization.gpu", "percent"),
    ("memory.used", "memory_used_mb"),
    ("memory.total", "memory_total_mb"),
    ("temperature.gpu", "temperature_c"),
    ("power.draw", "power_w"),
];

type Latest = BTreeMap<String, Vec<(String, f64)>>;

pub(super) struct Gpus {
    child: Child,
    latest: Arc<Mutex<Latest>>,
}

impl Gpus {
    pub(super) fn watch(every: Duration) -> Option<Self> {
        let columns: Vec<&str> = COLUMNS.iter().map(|(column, _)| *column).collect();
        let mut child = Command::new("nvidia-smi")
            .arg(format!("--query-gpu={}", columns.join(",")))
            .arg("--format=csv,noheader,nounits")
            .arg(format!("--loop-ms={}", every.as_millis()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let stdout = child.stdout.take()?;
        let latest = Arc::new(Mutex::new(Latest::new()));
        let shared = latest.clone();
        let reader = std::thread::Builder::new().name("mlplat-gpu".into());
        let reading = reader.spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some((index, readings)) = parse(&line) {
                    shared.lock().insert(index, readings);
                }
            }
            // It ended, so what it said last is of the past.
            shared.lock().clear();
        });
        let gpus = Self { child, latest };
        reading.ok().map(|_| gpus)
    }

    pub(super) fn readings(&self, into: &mut Vec<(String, f64)>) {
        into.extend(self.latest.lock().values().flatten().cloned());
    }
}

impl Drop for Gpus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One line of the report: `0, 37, 1024, 8192, 51, 70.25`; what a GPU does not know is `[N/A]`.
fn parse(line: &str) -> Option<(String, Vec<(String, f64)>)> {
    let mut cells = line.split(',').map(str::trim);
    let index: u32 = cells.next()?.parse().ok()?;
    let names = COLUMNS.iter().skip(1).map(|(_, name)| *name);
    let values: BTreeMap<&str, f64> = names
        .zip(cells)
        .filter_map(|(name, cell)| Some((name, cell.parse().ok()?)))
        .collect();
    let mut readings: Vec<(String, f64)> = values
        .iter()
        .filter(|(name, _)| **name != "memory_total_mb")
        .map(|(name, value)| (format!("gpu_{index}_{name}"), *value))
        .collect();
    if let (Some(used), Some(total)) = (values.get("memory_used_mb"), values.get("memory_total_mb"))
    {
        readings.push((format!("gpu_{index}_memory_percent"), 100.0 * used / total));
    }
    Some((index.to_string(), readings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_report() {
        let (index, readings) = parse("1, 37, 1024, 8192, 51, 70.25").unwrap();
        let readings: BTreeMap<String, f64> = readings.into_iter().collect();
        assert_eq!(index, "1");
        assert_eq!(readings["gpu_1_percent"], 37.0);
        assert_eq!(readings["gpu_1_memory_percent"], 12.5);
        assert_eq!(readings["gpu_1_power_w"], 70.25);
        assert_eq!(readings.len(), 5);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let (_, readings) = parse("0, [N/A], 10, 0, 40, [Not Supported]").unwrap();
        let names: Vec<&str> = readings.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "gpu_0_memory_used_mb",
                "gpu_0_temperature_c",
                "gpu_0_memory_percent"
            ]
        );
        assert!(parse("No devices were found").is_none());
        assert!(parse("").is_none());
    }
}
