//! What the operating system says of the process, under the names that Prometheus' own libraries use. Read whenever the
//! page is printed; where it cannot be read, or on another system than Linux, it is left out.

use std::fmt;

use consilium_metrics::{Described, Part, Sheet, Unit};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
};

const CPU: Described =
    Described::counter("process_cpu", &[], "Time that the process has spent on processors").of(Unit::Seconds);
const OPEN_FDS: Described = Described::gauge("process_open_fds", &[], "Open file descriptors");
const MAX_FDS: Described = Described::gauge("process_max_fds", &[], "File descriptors that may be open");
const RESIDENT: Described =
    Described::gauge("process_resident_memory", &[], "Memory that the process takes up").of(Unit::Bytes);
const VIRTUAL: Described =
    Described::gauge("process_virtual_memory", &[], "Address space that the process has reserved").of(Unit::Bytes);
const STARTED: Described =
    Described::gauge("process_start_time", &[], "When the process started, since 1970").of(Unit::Seconds);
const THREADS: Described = Described::gauge("process_threads", &[], "Threads of the process");

pub(super) const METRICS: [&Described; 7] = [&CPU, &OPEN_FDS, &MAX_FDS, &RESIDENT, &VIRTUAL, &STARTED, &THREADS];

/// This process.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProcessMetrics;

impl Part for ProcessMetrics {
    fn register(&self, sheet: &mut Sheet<'_>) {
        sheet.collect(Self);
    }
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(Facts { cpu_seconds, gauges }) = facts() else { return Ok(()) };
        CPU.encode(&mut encoder)?.encode_counter::<NoLabelSet, _, u64>(&cpu_seconds, None)?;
        for (gauge, value) in gauges {
            gauge.encode(&mut encoder)?.encode_gauge(&value)?;
        }
        Ok(())
    }
}

struct Facts {
    cpu_seconds: f64,
    gauges: Vec<(&'static Described, f64)>,
}

#[cfg(target_os = "linux")]
fn facts() -> Option<Facts> {
    use procfs::process::{LimitValue, Process};

    let process = Process::myself().ok()?;
    let stat = process.stat().ok()?;
    let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
    let mut gauges = vec![
        (&RESIDENT, (stat.rss * procfs::page_size()) as f64),
        (&VIRTUAL, stat.vsize as f64),
        (&THREADS, stat.num_threads as f64),
    ];
    gauges.extend(process.fd_count().ok().map(|open| (&OPEN_FDS, open as f64)));
    gauges.extend(process.limits().ok().map(|limits| match limits.max_open_files.soft_limit {
        LimitValue::Value(most) => (&MAX_FDS, most as f64),
        LimitValue::Unlimited => (&MAX_FDS, f64::INFINITY),
    }));
    gauges.extend(procfs::boot_time_secs().ok().map(|boot| (&STARTED, boot as f64 + seconds(stat.starttime))));
    Some(Facts { cpu_seconds: seconds(stat.utime + stat.stime), gauges })
}

#[cfg(not(target_os = "linux"))]
fn facts() -> Option<Facts> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use consilium_metrics::Page;

    use super::*;

    #[test]
    fn a_page_has_each_of_them_with_a_value_that_can_be() {
        let page = Page::new();
        let _ = (page.part::<ProcessMetrics>(), page.part::<ProcessMetrics>());
        let text = page.encode();
        for metric in METRICS {
            let name = metric.full_name();
            let values: Vec<f64> =
                text.lines().filter_map(|line| line.strip_prefix(&name)?.strip_prefix(' ')?.parse().ok()).collect();
            assert!(matches!(values[..], [value] if value >= 0.0), "{name}: {values:?} in {text}");
        }
        assert!(!text.contains("process_resident_memory_bytes 0"), "{text}");
    }
}
