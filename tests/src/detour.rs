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

/// For a page that publishes: leads the media of sessions that it makes over the port `window.detour` of loopback, unless that
/// is null. Notes those sessions in `window.sessions`, each with its `url` and when its answer came (`at`), and counts in
/// `window.restarts` the PATCHes that are answered 200.
#[must_use]
pub fn of_page(port: u16) -> String {
    format!(
        r#"(() => {{
          const plain = window.fetch;
          Object.assign(window, {{ detour: {port}, restarts: 0, sessions: [] }});
          window.fetch = async (url, options) => {{
            const response = await plain(url, options);
            if (options?.method === "PATCH" && response.status === 200) window.restarts += 1;
            if (options?.method !== "POST" || response.status !== 201) return response;
            const {{ status, headers, url: at }} = response;
            sessions.push({{ url: new URL(headers.get("Location"), at).href, at: performance.now() }});
            if (window.detour === null) return response;
            const candidate = `a=candidate:1 1 udp 2130706431 127.0.0.1 ${{window.detour}} typ host`;
            const sdp = (await response.text())
              .replace(/a=candidate:.*\r\n/g, "")
              .replace("a=end-of-candidates", `${{candidate}}\r\na=end-of-candidates`);
            return Object.defineProperty(new Response(sdp, {{ status, headers }}), "url", {{ value: at }});
          }};
        }})()"#
    )
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
