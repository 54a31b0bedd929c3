//! Which threads the kernel prefers: those that carry media before those that bring viewers in.
//!
//! On Linux the nice value belongs to the thread. Everybody may make his own worse; making it better takes
//! `CAP_SYS_NICE` or a limit (`RLIMIT_NICE`) that allows it.

use rustix::io::Errno;
use rustix::process::{getpriority_process, setpriority_process};

/// How much worse than media: about a tenth of the weight, so that a storm of joins takes what media leaves over, and
/// still a tenth of a processor where media leaves nothing.
const STEPS_DOWN: i32 = 10;
/// How much better than other programs of the machine, where the node may.
const STEPS_UP: i32 = 5;

/// Puts this thread behind those that carry media.
pub fn yield_to_media() {
    if let Err(error) = change(STEPS_DOWN) {
        tracing::warn!(%error, "a thread that brings viewers in runs at the priority of media");
    }
}

/// Puts this thread before other programs, if that is allowed. `what` it does is told in the log.
pub fn prefer_for_media(what: &str) {
    match change(-STEPS_UP) {
        Ok(()) => tracing::debug!(what, "this thread runs before other programs"),
        Err(error) => tracing::info!(
            what,
            %error,
            "media runs at the priority of every other program; CAP_SYS_NICE or LimitNICE lets it run before them"
        ),
    }
}

/// Adds to the nice value of the calling thread.
fn change(by: i32) -> Result<(), Errno> {
    setpriority_process(None, getpriority_process(None)? + by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_calling_thread_yields() {
        let before = getpriority_process(None).unwrap();
        let lowered = std::thread::spawn(|| {
            yield_to_media();
            getpriority_process(None).unwrap()
        });
        assert_eq!(lowered.join().unwrap(), (before + STEPS_DOWN).min(19));
        assert_eq!(getpriority_process(None).unwrap(), before);
    }
}
