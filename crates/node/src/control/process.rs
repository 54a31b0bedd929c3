//! A controller as a process of its own: no media, no sessions; the store, the decisions, and HTTP.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use config::Config;
use model::Role;

use super::Control;
use crate::clock::unix_time;
use crate::directory::Directory;
use crate::gate::Gate;
use crate::life::{self, Served};
use crate::sessions::Sessions;
use crate::start::StopSignals;
use crate::{bind, random, tls};

/// A controller that is told to stop gives its lease back within this time.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// From start to end.
pub async fn live(config: Config) -> anyhow::Result<()> {
    let mut signals = StopSignals::new()?;
    let http = bind::listen(config.http.listen, "--http")?;
    let ops = bind::listen(config.ops.listen, "--ops")?;
    let random: [u8; 32] = random::bytes()?;
    let me = life::node_id(Role::Controller, &config, &random)?;
    let incarnation =
        (unix_time().as_millis() as u64, u64::from_be_bytes(random[6..14].try_into().unwrap_or_default()));
    let (metrics, traces, exporting) = life::introduce(Role::Controller, &config, &me, 0)?;
    let prepared = Control::prepare(Role::Controller, &config, &me, incarnation, &metrics)?;
    let prepared = prepared.context("a controller has a store")?;
    let control = prepared.control().clone();
    let declared = Some(control.front_door.declared().clone());
    let tokens = config.access.publish_tokens.clone();
    let gate = Gate::new(&config, tokens, me.clone(), declared, metrics.access())?;
    let served = Served {
        directory: Arc::new(Directory::default()),
        sessions: Arc::new(Sessions::new(config.log.client_addresses)),
        ingest: None,
        shards: Vec::new(),
        rtmp: None,
        tcp_ports: BTreeSet::new(),
        certificate: Arc::new(ice_dtls::Certificate::generate().context("make the certificate for DTLS")?),
        next_id: 1,
        gate,
    };
    let app = served.app(&config, Some(&control), (&metrics, traces));
    prepared.start(&app, None);
    let tls = tls::of_config(&config)?;
    metrics.certificate(tls.as_ref());
    life::serve(ops, Some(http), tls, (&config, &app))?;
    tracing::info!(node = %me, role = %Role::Controller, "controller is up");
    let scheme = if app.is_tls { "https" } else { "http" };
    println!(
        "Media-Tree is up (controller).\n  nodes     --store {scheme}://{listen}\n  dashboard {scheme}://{listen}/dashboard\n  operate   http://{}/metrics",
        config.ops.listen,
        listen = config.http.listen,
    );
    signals.next().await;
    let mut stopped = control.stopped();
    app.is_draining.store(true, Ordering::Relaxed);
    control.stop();
    control.part().await;
    let _ = tokio::time::timeout(STOP_WITHIN, stopped.wait_for(|is_stopped| *is_stopped)).await;
    if let Some(exporting) = exporting {
        exporting.flush().await;
    }
    Ok(())
}
