//! A process: whether it runs, and how it is ended, without ever meaning another one that got its number.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process that was started here, or by a process before this one.
#[derive(Debug)]
pub(super) struct Running {
    pid: u32,
    /// Clock ticks from the machine's start to the process's: with the number it names one process.
    began: u64,
    handle: OwnedFd,
    /// Of those that this process started: they have to be waited for.
    own: Option<std::process::Child>,
}

impl Running {
    /// A process that was just started. One that cannot be watched over is ended.
    pub fn own(mut child: std::process::Child) -> io::Result<Self> {
        match Self::adopted(child.id()) {
            Ok(running) => Ok(Self { own: Some(child), ..running }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// A process that an earlier one started.
    pub fn adopted(pid: u32) -> io::Result<Self> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let number = number.ok_or_else(|| io::Error::other("no number of a process"))?;
        let handle = pidfd_open(number, PidfdFlags::empty())?;
        let began = Stat::of(pid).ok_or_else(|| io::Error::other("the process is gone"))?.began;
        Ok(Self { pid, began, handle, own: None })
    }

    /// Whether it has ended; in words how, where that is known.
    pub fn ended(&mut self) -> Option<String> {
        if let Some(own) = &mut self.own {
            return own.try_wait().ok().flatten().map(|status| status.to_string());
        }
        let is_there = Stat::of(self.pid).is_some_and(|stat| stat.began == self.began && !stat.is_dead);
        (!is_there).then(|| "unknown, since another process started it".to_owned())
    }

    /// Asks it to end, or ends it. One that has ended hears nothing.
    pub fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.handle, signal);
    }
}

/// What `/proc/PID/stat` says.
struct Stat {
    parent: u32,
    began: u64,
    is_dead: bool,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses, and may have some of its own. Behind it comes the third field.
        let mut fields = text.rsplit_once(") ")?.1.split(' ');
        let is_dead = matches!(fields.next()?, "Z" | "X");
        let parent = fields.next()?.parse().ok()?;
        let began = fields.nth(17)?.parse().ok()?;
        Some(Self { parent, began, is_dead })
    }
}

/// The processes whose environment has `mark`, each with its value; of a process and its children the process.
pub(super) fn marked(mark: &str) -> Vec<(u32, String)> {
    let Ok(processes) = Path::new("/proc").read_dir() else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let value = |pid: u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        let own = environment
            .split(|byte| *byte == 0)
            .find_map(|variable| std::str::from_utf8(variable).ok()?.strip_prefix(mark)?.strip_prefix('='));
        own.map(str::to_owned)
    };
    let marked: Vec<(u32, String)> = pids.filter_map(|pid| Some((pid, value(pid)?))).collect();
    let is_child = |(pid, of): &(u32, String)| {
        let parent = Stat::of(*pid).map(|stat| stat.parent);
        marked.iter().any(|(other, value)| Some(*other) == parent && value == of)
    };
    marked.iter().filter(|found| !is_child(found)).cloned().collect()
}
