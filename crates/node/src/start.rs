//! What a node starts with beside its configuration: sockets and a key, where another process keeps them for it.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use config::Config;
use model::Role;
use records::SealingKey;
use supervisor::{Child, Inheritance, Word};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::bind::Ports;

/// How a node starts.
#[derive(Debug, Default)]
pub struct Start {
    sockets: BTreeMap<String, OwnedFd>,
    key: Option<SealingKey>,
    deaths: u64,
    supervisor: Option<Child>,
}

impl Start {
    /// Under a supervisor, with what it hands over.
    #[must_use]
    pub fn supervised(child: Child, inheritance: Inheritance) -> Self {
        let Inheritance { sockets, key, deaths } = inheritance;
        Self { sockets, key: key.map(|key| SealingKey::generate(*key)), deaths, supervisor: Some(child) }
    }

    /// The node's sockets: those that were handed over, and the rest bound here.
    ///
    /// # Errors
    /// Names the port that cannot be had.
    pub(crate) fn ports(&mut self, role: Role, config: &Config) -> anyhow::Result<Ports> {
        Ports::take(role, config, std::mem::take(&mut self.sockets))
    }

    /// The key of session records: the one that was handed over, else that of the configuration's file.
    ///
    /// # Errors
    /// If the file holds none.
    pub(crate) fn key(&mut self, config: &config::Node) -> anyhow::Result<Option<SealingKey>> {
        let of_file = || config.state_key_file.as_deref().map(SealingKey::from_file).transpose();
        self.key.take().map_or_else(of_file, |key| Ok(Some(key))).map_err(Into::into)
    }

    /// Processes of this node that died unasked, as far as a supervisor knows.
    pub(crate) const fn deaths(&self) -> u64 {
        self.deaths
    }

    /// Everything but sockets and records is ready: waits until nobody else uses them. Gives whether sessions of an
    /// earlier process are gone on with.
    ///
    /// # Errors
    /// If the supervisor is gone.
    pub(crate) fn stand_by(&mut self) -> anyhow::Result<bool> {
        self.supervisor.as_mut().map_or(Ok(true), Child::stand_by)
    }

    /// The node serves. Gives what ends it.
    ///
    /// # Errors
    /// If signals cannot be taken, or the supervisor is gone.
    pub(crate) fn ready(self) -> anyhow::Result<Words> {
        Ok(Words { supervisor: self.supervisor.map(Child::ready).transpose()? })
    }
}

/// What ends a node: signals, or words of its supervisor.
pub struct Words {
    supervisor: Option<mpsc::UnboundedReceiver<Word>>,
}

impl Words {
    /// The next one. A supervised process leaves signals to its supervisor: service managers send them to both.
    pub async fn next(&mut self, signals: &mut StopSignals) -> Word {
        match &mut self.supervisor {
            None => {
                signals.next().await;
                Word::Stop
            }
            // A supervisor that is gone takes its child with it.
            Some(words) => words.recv().await.unwrap_or(Word::Stop),
        }
    }
}

/// SIGTERM and SIGINT of this process.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Takes the signals over from the kernel's default.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
