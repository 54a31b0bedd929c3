//! Publishers and viewers whose media goes a way that a test can spoil.

use anyhow::{Context as _, ensure};
use client::{Whep, WhepPeer, Whip, WhipPeer, whep, whip};
use model::Codec;
use reqwest::header;

use crate::udp_way::UdpWay;

/// One of them; ends with its value.
pub struct Detour<P> {
    /// Its connection.
    pub peer: P,
    /// The way of its media.
    pub way: UdpWay,
    /// The URL of its session.
    pub session: String,
}

impl Detour<WhepPeer> {
    /// Watches the WHEP endpoint `url`.
    ///
    /// # Errors
    /// If it cannot.
    pub async fn watch(url: &str) -> anyhow::Result<Self> {
        let offer = Whep::offer(url, whep::Options::default()).await?;
        let (way, session, answer) = post(url, offer.description()).await?;
        Ok(Self { peer: offer.accept(&answer).await?, way, session })
    }
}

impl Detour<WhipPeer> {
    /// Publishes to the WHIP endpoint `url`, with one track for each of `codecs`.
    ///
    /// # Errors
    /// If it cannot.
    pub async fn publish(url: &str, codecs: &[Codec]) -> anyhow::Result<Self> {
        let offer = Whip::offer(url, codecs, whip::Options::default()).await?;
        let (way, session, answer) = post(url, offer.description()).await?;
        Ok(Self { peer: offer.accept(&answer).await?, way, session })
    }
}

/// Makes a session; its answer names the port where the way begins in the place of the one where it ends.
async fn post(url: &str, offer: &str) -> anyhow::Result<(UdpWay, String, String)> {
    let request = reqwest::Client::new().post(url).header(header::CONTENT_TYPE, "application/sdp");
    let response = request.body(offer.to_owned()).send().await?;
    ensure!(response.status() == 201, "{}", response.status());
    let session = response.headers().get(header::LOCATION).context("Location")?.to_str()?.to_owned();
    let answer = response.text().await?;
    // foundation, component, transport, priority, address, port (RFC 8839, section 5.1)
    let mut candidates = answer.lines().filter(|line| line.starts_with("a=candidate:"));
    let port = candidates.next().and_then(|line| line.split(' ').nth(5)).context("a candidate")?;
    let way = UdpWay::to(port.parse()?).await?;
    let answer = answer.replace(&format!(" {port} typ "), &format!(" {} typ ", way.port));
    Ok((way, session, answer))
}
