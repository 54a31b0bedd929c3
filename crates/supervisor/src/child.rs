//! The supervised process's side.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::Context as _;
use rustix::process::Signal;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::channel::{Channel, KEY_BYTES, ToChild, ToParent};

/// Says that the standard input is a [`Channel`].
pub(crate) const VARIABLE: &str = "MEDIA_TREE_SUPERVISED_CHILD";

/// What a child starts with.
pub struct Inheritance {
    /// The node's sockets, by name.
    pub sockets: BTreeMap<String, OwnedFd>,
    /// The key of its session records, if the configuration names none.
    pub key: Option<Zeroizing<[u8; KEY_BYTES]>>,
    /// Processes of this node before it that died unasked.
    pub deaths: u64,
}

/// What the supervisor wants of a child that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Drain and exit; the second time: at once.
    Stop,
    /// Exit without a word to anybody: another process goes on.
    HandOver,
}

/// A process that is supervised.
#[derive(Debug)]
pub struct Child {
    channel: Channel,
    /// Told while the sockets came.
    go: Option<bool>,
}

impl Child {
    /// Whether this process is a supervisor's child.
    #[must_use]
    pub fn is_this_process() -> bool {
        std::env::var_os(VARIABLE).as_deref() == Some(OsStr::new("1"))
    }

    /// The supervisor's child, if this process is one, and what it inherits. It ends with its supervisor.
    ///
    /// # Errors
    /// If the supervisor is gone or does not say what it should.
    pub fn of_process() -> anyhow::Result<Option<(Self, Inheritance)>> {
        if !Self::is_this_process() {
            return Ok(None);
        }
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .context("ask to end with the supervisor")?;
        let input = std::io::stdin().as_fd().try_clone_to_owned().context("take the supervisor's channel")?;
        Self::over(Channel::new(input)).map(Some)
    }

    fn over(channel: Channel) -> anyhow::Result<(Self, Inheritance)> {
        let mut inheritance = Inheritance { sockets: BTreeMap::new(), key: None, deaths: 0 };
        loop {
            match channel.listen().context("listen to the supervisor")?.context("the supervisor is gone")? {
                ToChild::Socket(name, socket) => {
                    inheritance.sockets.insert(name, socket);
                }
                ToChild::Key(key) => inheritance.key = Some(key),
                ToChild::Deaths(count) => inheritance.deaths = count,
                ToChild::Go { resumes } => return Ok((Self { channel, go: Some(resumes) }, inheritance)),
                // Sockets end with the word to begin, or with this one: they are in use still.
                ToChild::HandOver => return Ok((Self { channel, go: None }, inheritance)),
                ToChild::Stop => anyhow::bail!("told to stop before the start"),
            }
        }
    }

    /// Everything is prepared: waits until nobody else uses sockets and records. Gives whether sessions are to be gone
    /// on with.
    ///
    /// # Errors
    /// If the supervisor is gone, or wants the process to end instead.
    pub fn stand_by(&mut self) -> anyhow::Result<bool> {
        if let Some(resumes) = self.go {
            return Ok(resumes);
        }
        self.channel.report(ToParent::StandsBy).context("tell the supervisor")?;
        loop {
            match self
                .channel
                .listen()
                .context("listen to the supervisor")?
                .context("the supervisor is gone")?
            {
                ToChild::Go { resumes } => return Ok(resumes),
                ToChild::Stop => anyhow::bail!("told to stop before the start"),
                ToChild::Socket(..) | ToChild::Key(_) | ToChild::Deaths(_) | ToChild::HandOver => {}
            }
        }
    }

    /// The node serves. Gives what the supervisor says from now on.
    ///
    /// # Errors
    /// If it is gone, or no thread can be had.
    pub fn ready(self) -> anyhow::Result<mpsc::UnboundedReceiver<Word>> {
        self.channel.report(ToParent::Ready).context("tell the supervisor")?;
        let (sender, receiver) = mpsc::unbounded_channel();
        let listen = move || {
            while let Ok(Some(message)) = self.channel.listen() {
                let word = match message {
                    ToChild::Stop => Word::Stop,
                    ToChild::HandOver => Word::HandOver,
                    ToChild::Socket(..) | ToChild::Key(_) | ToChild::Deaths(_) | ToChild::Go { .. } => {
                        continue;
                    }
                };
                if sender.send(word).is_err() {
                    break;
                }
            }
        };
        std::thread::Builder::new()
            .name("supervisor".into())
            .spawn(listen)
            .context("start a thread for the supervisor's words")?;
        Ok(receiver)
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn socket() -> OwnedFd {
        UdpSocket::bind("127.0.0.1:0").expect("a socket").into()
    }

    #[test]
    fn a_successor_waits_for_its_turn() {
        let (parent, child) = Channel::pair().expect("a pair");
        parent.tell(&ToChild::Socket("link".into(), socket())).expect("told");
        parent.tell(&ToChild::Deaths(2)).expect("told");
        parent.tell(&ToChild::HandOver).expect("told");
        let (mut child, inheritance) = Child::over(child).expect("a child");
        assert_eq!(inheritance.sockets.keys().collect::<Vec<_>>(), ["link"]);
        assert_eq!(inheritance.deaths, 2);
        parent.tell(&ToChild::Go { resumes: false }).expect("told");
        assert!(!child.stand_by().expect("its turn"));
        assert_eq!(parent.hear().expect("heard"), Some(ToParent::StandsBy));
        let mut words = child.ready().expect("ready");
        assert_eq!(parent.hear().expect("heard"), Some(ToParent::Ready));
        parent.tell(&ToChild::Stop).expect("told");
        parent.tell(&ToChild::HandOver).expect("told");
        assert_eq!(words.blocking_recv(), Some(Word::Stop));
        assert_eq!(words.blocking_recv(), Some(Word::HandOver));
        drop(parent);
        assert_eq!(words.blocking_recv(), None);
    }

    #[test]
    fn a_child_without_supervisor_does_not_start() {
        let (parent, child) = Channel::pair().expect("a pair");
        parent.tell(&ToChild::Socket("link".into(), socket())).expect("told");
        drop(parent);
        let refused = Child::over(child).err().expect("it is alone");
        assert!(refused.to_string().contains("gone"));
    }
}
