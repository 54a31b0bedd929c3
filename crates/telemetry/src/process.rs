//! What this process uses of the machine, read from `/proc` and `/sys/fs/cgroup`.
//!
//! CPU is told in percent of what the process may use: the smallest CPU quota of its cgroups (version 1 or 2, its own
//! or an ancestor's) or the processors of its affinity, whichever is less. So 100 means "cannot do more", in a container
//! of half a processor as on bare metal.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Clock ticks per second in `/proc/self/stat`; fixed by the kernel's ABI on every platform that Rust's standard
/// library supports (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU is told anew after this time: the kernel counts in steps of 10 ms, so a shorter mean would be noise.
const INTERVAL_MIN: Duration = Duration::from_millis(500);

/// What the process uses.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// CPU since the last sample, in percent of what is allowed. May pass 100 for a moment.
    pub cpu_percent: f64,
    /// Resident memory.
    pub memory_bytes: u64,
}

/// What the process holds of what the kernel gives it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Holdings {
    /// File descriptors that are open.
    pub open_files: u64,
    /// How many may be, by the soft limit; `None` if there is no limit.
    pub open_files_max: Option<u64>,
    /// Processors that it may use: what 100 percent of CPU are.
    pub processors: f64,
}

/// Reads usage again and again; CPU is the mean since the time before.
#[derive(Debug)]
pub struct Sampler {
    root: PathBuf,
    last: Option<(Instant, Duration)>,
    cpu_percent: f64,
}

impl Default for Sampler {
    fn default() -> Self {
        Self::new(Path::new("/"))
    }
}

impl Sampler {
    /// Reads below `root`, which is `/` but for tests.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.into(), last: None, cpu_percent: 0.0 }
    }

    /// Usage now. Without `/proc` it is zero; the first sample tells no CPU.
    pub fn sample(&mut self, now: Instant) -> Usage {
        let memory_bytes = self.memory_bytes().unwrap_or(0);
        let Some(used) = self.cpu_time() else { return Usage { cpu_percent: 0.0, memory_bytes } };
        match self.last {
            Some((then, before)) if now.saturating_duration_since(then) >= INTERVAL_MIN => {
                let wall = (now - then).as_secs_f64();
                self.cpu_percent =
                    used.saturating_sub(before).as_secs_f64() / wall / self.processors() * 100.0;
                self.last = Some((now, used));
            }
            Some(_too_soon) => {}
            None => self.last = Some((now, used)),
        }
        Usage { cpu_percent: self.cpu_percent, memory_bytes }
    }

    /// What the process holds now. Without `/proc` it is nothing.
    #[must_use]
    pub fn holdings(&self) -> Holdings {
        let files = fs::read_dir(self.root.join("proc/self/fd"));
        Holdings {
            // The listing itself holds one.
            open_files: files.map_or(0, |files| (files.count() as u64).saturating_sub(1)),
            open_files_max: self.read("proc/self/limits").and_then(|limits| open_files_max(&limits)),
            processors: self.processors(),
        }
    }

    /// How many processors the process may use, with fractions; at least a hundredth.
    #[must_use]
    pub fn processors(&self) -> f64 {
        let allowed = self.read("proc/self/status").and_then(|status| allowed_processors(&status));
        let quotas = [self.quota_v2(), self.quota_v1()].into_iter().flatten();
        let least = quotas.chain(allowed.map(f64::from)).fold(f64::INFINITY, f64::min);
        if least.is_finite() { least.max(0.01) } else { 1.0 }
    }

    fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }

    /// User and system time of all threads.
    fn cpu_time(&self) -> Option<Duration> {
        let stat = self.read("proc/self/stat")?;
        // The name in parentheses may contain anything; utime and stime are the 12th and 13th field after it.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Duration::from_secs_f64((user + system) as f64 / TICKS_PER_SECOND))
    }

    fn memory_bytes(&self) -> Option<u64> {
        let status = self.read("proc/self/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
    }

    /// `cpu.max` of the process's cgroup and its ancestors: quota and period in microseconds.
    fn quota_v2(&self) -> Option<f64> {
        let groups = self.read("proc/self/cgroup")?;
        let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
        let mount = ["sys/fs/cgroup", "sys/fs/cgroup/unified"];
        self.least(&mount, group, |folder| {
            let text = self.read(folder.join("cpu.max"))?;
            let (quota, period) = text.trim().split_once(' ')?;
            Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
        })
    }

    /// `cpu.cfs_quota_us` over `cpu.cfs_period_us` likewise; a negative quota is none.
    fn quota_v1(&self) -> Option<f64> {
        let groups = self.read("proc/self/cgroup")?;
        let group = groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?;
            controllers.split(',').any(|name| name == "cpu").then(|| fields.next())?
        })?;
        let mount = ["sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct"];
        self.least(&mount, group, |folder| {
            let number = |name: &str| self.read(folder.join(name))?.trim().parse::<f64>().ok();
            let (quota, period) = (number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?);
            (quota > 0.0 && period > 0.0).then(|| quota / period)
        })
    }

    /// The least quota of a cgroup and its ancestors. In a container the mount may begin at the container's own group,
    /// so that the path is not found below it; its root then is the group.
    fn least(&self, mounts: &[&str], group: &str, quota: impl Fn(&Path) -> Option<f64>) -> Option<f64> {
        let group = Path::new(group.trim().trim_start_matches('/'));
        let folders =
            mounts.iter().flat_map(|mount| group.ancestors().map(move |part| Path::new(mount).join(part)));
        folders.filter_map(|folder| quota(&folder)).reduce(f64::min)
    }
}

/// The soft limit in `Max open files            1024                 524288               files`.
fn open_files_max(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The number of processors in `Cpus_allowed_list: 0-3,8`.
fn allowed_processors(status: &str) -> Option<u32> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let count = |range: &str| -> Option<u32> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    list.trim().split(',').map(count).try_fold(0u32, |sum, range| sum.checked_add(range?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A played `/`.
    struct Root(tempfile::TempDir);

    impl Root {
        fn new(files: &[(&str, &str)]) -> Self {
            let root = Self(tempfile::tempdir().expect("a folder"));
            files.iter().for_each(|(path, text)| root.write(path, text));
            root
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("created");
            fs::write(path, text).expect("written");
        }

        fn sampler(&self) -> Sampler {
            Sampler::new(self.0.path())
        }
    }

    const EIGHT: (&str, &str) = ("proc/self/status", "VmRSS:\t  2048 kB\nCpus_allowed_list:\t0-3,8-11\n");

    fn stat(user: u64, system: u64) -> String {
        format!("7 (media) tree) S 1 7 7 0 -1 4194560 100 0 0 0 {user} {system} 0 0 20 0 9 0 100 1 1")
    }

    #[test]
    fn cpu_is_told_in_percent_of_what_is_allowed() {
        let root = Root::new(&[EIGHT, ("proc/self/stat", &stat(100, 100))]);
        let mut sampler = root.sampler();
        let start = Instant::now();
        assert_eq!(sampler.sample(start), Usage { cpu_percent: 0.0, memory_bytes: 2 << 20 });
        root.write("proc/self/stat", &stat(500, 500));
        let usage = sampler.sample(start + Duration::from_secs(2));
        assert!((usage.cpu_percent - 50.0).abs() < 0.001, "8 s in 2 s of 8 processors: {usage:?}");
        // A second reader right behind the first sees the same, not the noise of a moment.
        root.write("proc/self/stat", &stat(500, 501));
        assert_eq!(sampler.sample(start + Duration::from_millis(2001)), usage);
    }

    #[test]
    fn a_quota_of_cgroup_version_2_counts_even_if_an_ancestor_has_it() {
        let group = ("proc/self/cgroup", "0::/pod/container\n");
        let root = Root::new(&[
            EIGHT,
            group,
            ("sys/fs/cgroup/pod/container/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/pod/cpu.max", "150000 100000\n"),
        ]);
        assert_eq!(root.sampler().processors(), 1.5);
        root.write("sys/fs/cgroup/pod/container/cpu.max", "50000 100000\n");
        assert_eq!(root.sampler().processors(), 0.5);
    }

    #[test]
    fn a_quota_of_cgroup_version_1_counts_inside_and_outside_a_container() {
        let groups = ("proc/self/cgroup", "5:devices:/\n4:cpu,cpuacct:/docker/abc\n0::/docker/abc\n");
        for folder in ["sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct/docker/abc"] {
            let (quota, period) =
                (format!("{folder}/cpu.cfs_quota_us"), format!("{folder}/cpu.cfs_period_us"));
            let root = Root::new(&[EIGHT, groups, (&quota, "200000\n"), (&period, "100000\n")]);
            assert_eq!(root.sampler().processors(), 2.0, "{folder}");
            root.write(&quota, "-1\n");
            assert_eq!(root.sampler().processors(), 8.0, "{folder}");
        }
    }

    #[test]
    fn open_files_are_counted_against_their_soft_limit() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 524288               files\n";
        let root = Root::new(&[EIGHT, ("proc/self/limits", limits)]);
        for descriptor in 0..4 {
            root.write(&format!("proc/self/fd/{descriptor}"), "");
        }
        let expected = Holdings { open_files: 3, open_files_max: Some(1024), processors: 8.0 };
        assert_eq!(root.sampler().holdings(), expected);
        root.write("proc/self/limits", &limits.replace("1024     ", "unlimited"));
        assert_eq!(root.sampler().holdings().open_files_max, None);
    }

    #[test]
    fn without_proc_nothing_is_used_and_nothing_fails() {
        let root = Root::new(&[]);
        let mut sampler = root.sampler();
        assert_eq!(sampler.sample(Instant::now()), Usage::default());
        assert_eq!(sampler.processors(), 1.0);
        assert_eq!(sampler.holdings(), Holdings { processors: 1.0, ..Holdings::default() });
    }

    #[test]
    fn the_real_proc_is_understood() {
        let mut sampler = Sampler::default();
        let usage = sampler.sample(Instant::now());
        assert!(usage.memory_bytes > 1 << 20, "{usage:?}");
        assert!(sampler.cpu_time().is_some());
        let holdings = sampler.holdings();
        assert!(holdings.processors > 0.0 && holdings.open_files > 2, "{holdings:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_content_of_the_files_panics(text in "\\PC{0,60}", list in "[-,0-9]{0,20}") {
            let root = Root::new(&[
                ("proc/self/stat", &text),
                ("proc/self/status", &format!("VmRSS:{text}\nCpus_allowed_list:{list}\n")),
                ("proc/self/cgroup", &format!("0::{text}\n1:cpu:{text}\n")),
                ("proc/self/limits", &format!("Max open files{text}\n")),
                ("sys/fs/cgroup/cpu.max", &text),
            ]);
            let mut sampler = root.sampler();
            let usage = sampler.sample(Instant::now());
            prop_assert!(usage.cpu_percent >= 0.0 && sampler.holdings().processors > 0.0);
        }
    }
}
