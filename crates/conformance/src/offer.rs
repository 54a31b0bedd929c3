//! Offers in the manner of browsers, each with credentials of its own. Checks change them as text.

use std::fmt::Write as _;

use crate::side::Protocol;

/// What an offer is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer<'a> {
    pub(crate) protocol: Protocol,
    /// Of each section.
    pub(crate) direction: &'a str,
    /// How many audio sections; they come first.
    pub(crate) audios: usize,
    /// How many video sections.
    pub(crate) videos: usize,
    /// Simulcast layers of the first video.
    pub(crate) layers: &'a [&'a str],
}

impl Offer<'_> {
    /// One audio and one video in the right direction.
    pub(crate) const fn plain(protocol: Protocol) -> Self {
        let direction = match protocol {
            Protocol::Whip => "sendonly",
            Protocol::Whep => "recvonly",
        };
        Self { protocol, direction, audios: 1, videos: 1, layers: &[] }
    }

    /// The text, with new credentials.
    pub(crate) fn text(&self) -> String {
        let (ufrag, pwd, fingerprint) = (hex::<4>(), hex::<16>(), fingerprint());
        let mids: Vec<String> = (0..self.audios + self.videos).map(|mid| mid.to_string()).collect();
        let mut text = format!(
            "v=0\r\no=- {} 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\na=extmap-allow-mixed\r\n\
             a=msid-semantic: WMS\r\n",
            u64::from_be_bytes(random()) >> 2,
            mids.join(" ")
        );
        for (index, mid) in mids.iter().enumerate() {
            let is_audio = index < self.audios;
            let media = if is_audio {
                "audio 9 UDP/TLS/RTP/SAVPF 111"
            } else {
                "video 9 UDP/TLS/RTP/SAVPF 96 97 98 99"
            };
            let _ = write!(
                text,
                "m={media}\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n\
                 a=ice-options:trickle\r\na=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\na=mid:{mid}\r\n\
                 a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na={}\r\n",
                self.direction
            );
            if self.protocol == Protocol::Whip {
                let _ = write!(text, "a=msid:conformance {}\r\n", if is_audio { "sound" } else { "picture" });
            }
            text += "a=rtcp-mux\r\na=rtcp-mux-only\r\na=rtcp-rsize\r\n";
            text += if is_audio { AUDIO } else { VIDEO };
            if index == self.audios && !self.layers.is_empty() {
                self.layers.iter().for_each(|rid| {
                    let _ = write!(text, "a=rid:{rid} send\r\n");
                });
                let _ = write!(text, "a=simulcast:send {}\r\n", self.layers.join(";"));
            }
        }
        text
    }
}

const AUDIO: &str = "a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n";
const VIDEO: &str = "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
    a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\n\
    a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 ccm fir\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n\
    a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
    a=rtpmap:98 H264/90000\r\na=rtcp-fb:98 ccm fir\r\na=rtcp-fb:98 nack\r\na=rtcp-fb:98 nack pli\r\n\
    a=fmtp:98 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n\
    a=rtpmap:99 rtx/90000\r\na=fmtp:99 apt=98\r\n";

/// `N` bytes of the kernel's random generator. Without one there is nothing to fear but equal credentials.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0x5a; N];
    let _ = getrandom::fill(&mut bytes);
    bytes
}

fn hex<const N: usize>() -> String {
    random::<N>().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// That of no certificate.
fn fingerprint() -> String {
    random::<32>().map(|byte| format!("{byte:02X}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::{attributes, sections};

    #[test]
    fn an_offer_has_the_sections_that_were_asked_for() {
        let offer = Offer { videos: 2, layers: &["0", "1"], ..Offer::plain(Protocol::Whip) }.text();
        assert_eq!(sections(&offer).len(), 3);
        let sound = Offer { audios: 2, videos: 0, ..Offer::plain(Protocol::Whep) }.text();
        assert_eq!(sound.matches("m=audio").count(), 2);
        assert_eq!(attributes(&offer, "simulcast"), ["send 0;1"]);
        assert_eq!(attributes(&offer, "group"), ["BUNDLE 0 1 2"]);
        assert_eq!(attributes(&offer, "sendonly").len(), 3);
        assert_eq!(offer.matches('\n').count(), offer.matches("\r\n").count());
        assert_ne!(
            attributes(&offer, "ice-ufrag"),
            attributes(&Offer::plain(Protocol::Whep).text(), "ice-ufrag")
        );
    }
}
