//! What publishers of this node are advised to do better.

use std::fmt::Error;
use std::sync::{Arc, Mutex, PoisonError};

use model::BroadcastId;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::collect::{Labels, Name, gauge};

/// One broadcast: each code that was told since its publisher came, and whether it is told now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advised {
    /// Its name.
    pub broadcast: BroadcastId,
    /// Codes of the broadcaster doctor.
    pub codes: Vec<(&'static str, bool)>,
}

/// Every broadcast that was given advice. One that is missing has ended, and so do its series.
#[derive(Debug, Default)]
pub struct Advice(Mutex<Vec<Advised>>);

impl Advice {
    /// Shows this; to be called about once a second.
    pub fn set(&self, advised: Vec<Advised>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = advised;
    }
}

/// Reads it at scrape time.
#[derive(Debug)]
pub(crate) struct AdviceCollector(pub Arc<Advice>);

impl Collector for AdviceCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let all = self.0.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let series = all.iter().flat_map(|advised| {
            advised.codes.iter().map(|(code, is_told)| {
                let labels = Labels(vec![("broadcast", advised.broadcast.as_str()), ("code", code)]);
                (labels, f64::from(u8::from(*is_told)))
            })
        });
        let name = Name(
            "publisher_advice",
            "1 while the publisher could do better in this way, 0 when it could earlier; the codes stand in \
             broadcasters.md",
        );
        gauge(&mut encoder, name, series)
    }
}
