//! How many threads there are, and where and how urgently they run.

use bise::threads::{CpuSet, Priority};

/// Number and place of the threads.
#[derive(clap::Args, Clone, Debug)]
pub struct ThreadArgs {
    /// Number of threads; -1: one per performance core
    #[arg(short, long, value_name = "N", default_value_t = -1, allow_negative_numbers = true, env = "LLAMA_ARG_THREADS")]
    pub threads: i32,

    /// Number of threads for the prompt; one pool serves both, so the larger number counts
    #[arg(long, alias = "tb", value_name = "N", allow_negative_numbers = true)]
    pub threads_batch: Option<i32>,

    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Where and how urgently threads run.
#[derive(clap::Args, Clone, Debug)]
pub struct PlaceArgs {
    /// Keep threads on the CPUs of a hexadecimal mask, as 0xf for CPUs 0 to 3
    #[arg(short = 'C', long, value_name = "MASK", value_parser = parse_mask)]
    pub cpu_mask: Option<CpuSet>,

    /// Keep threads on a range of CPUs, in addition to those of --cpu-mask
    #[arg(long, alias = "Cr", value_name = "LO-HI", value_parser = parse_range, allow_hyphen_values = true)]
    pub cpu_range: Option<CpuSet>,

    /// Keep each thread on a CPU of its own: 0 or 1
    #[arg(long, value_name = "0|1", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=1))]
    pub cpu_strict: u8,

    /// Priority of the threads: -1 low, 0 normal, 1 medium, 2 high, 3 realtime
    #[arg(long, value_name = "N", default_value = "0", allow_negative_numbers = true, value_parser = parse_priority)]
    pub prio: Priority,

    /// Priority while the prompt is read; the same threads do both, so the higher one counts
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = parse_priority)]
    pub prio_batch: Option<Priority>,

    /// How eagerly threads wait for each other, 0 (they sleep at once) to 100 [default: 50, on battery 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub poll: Option<u8>,

    /// How eagerly threads wait while the prompt is read; the same threads do both, so the higher number counts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub poll_batch: Option<u8>,
}

impl PlaceArgs {
    /// The CPUs of mask and range; `None` without either, and for a mask of zero.
    pub fn cpus(&self) -> Option<CpuSet> {
        let none = CpuSet::default();
        let cpus = self.cpu_mask.as_ref().unwrap_or(&none).union(self.cpu_range.as_ref().unwrap_or(&none));
        Some(cpus).filter(|cpus| !cpus.is_empty())
    }
}

fn parse_mask(mask: &str) -> Result<CpuSet, String> {
    CpuSet::from_mask(mask).map_err(|e| e.to_string())
}

fn parse_range(range: &str) -> Result<CpuSet, String> {
    // A range without an end goes on to the last CPU this program may use.
    let highest = bise::threads::allowed_cpus().and_then(|cpus| cpus.iter().last()).unwrap_or(0);
    CpuSet::from_range(range, highest).map_err(|e| e.to_string())
}

fn parse_priority(level: &str) -> Result<Priority, String> {
    let priority = level.parse().ok().and_then(Priority::from_level);
    priority.ok_or_else(|| format!("found '{level}', expected -1 to 3"))
}
