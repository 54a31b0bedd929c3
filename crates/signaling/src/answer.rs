//! What the answers of WHIP and WHEP have in common: one transport, ICE-lite, all candidates at once.

use crate::candidates::CANDIDATES_MAX;
use crate::sdp::{Attribute, Candidate, IceCredentials, Media, Session, Setup};

/// Answers stay below this, in bytes: FFmpeg reads them into a buffer of this size.
pub const ANSWER_BYTES_MAX: usize = 8192;

/// The options of `a=ice-options`: candidates that a client trickles are taken (and not needed), and the
/// agent follows RFC 8445.
pub(crate) const ICE_OPTIONS: &str = "trickle ice2";

/// The discard port: with ICE the addresses stand in the candidates (RFC 8839, section 4.3.1).
const PORT: u16 = 9;

/// This server's end of the one transport.
pub(crate) struct Transport<'a> {
    pub(crate) ice: &'a IceCredentials,
    /// The value of `a=fingerprint`.
    pub(crate) fingerprint: String,
    pub(crate) setup: Setup,
    /// Best first.
    pub(crate) candidates: &'a [Candidate],
}

/// The session level of an answer; sections are added by [`push_accepted`] and [`push_rejected`].
///
/// A bundle is answered only if one was offered (RFC 9143, section 7.3): a lone section needs none.
pub(crate) fn session(session_id: u64, accepted_mids: &[&str], is_bundle_offered: bool) -> Session {
    // RFC 8829, section 5.2.1: 64 bits at most, and below 2^62 to be safe with signed readers.
    let session_id = session_id & ((1 << 62) - 1);
    let mut attributes = vec![Attribute::flag("ice-lite"), Attribute::with("ice-options", ICE_OPTIONS)];
    if is_bundle_offered {
        attributes.push(Attribute::with("group", format_args!("BUNDLE {}", accepted_mids.join(" "))));
    }
    Session {
        origin: format!("- {session_id} 1 IN IP4 127.0.0.1"),
        name: "-".to_owned(),
        connection: None,
        attributes,
        media: Vec::new(),
    }
}

/// Adds an accepted section of media.
pub(crate) fn push_accepted(
    session: &mut Session,
    offered: &Media,
    mid: &str,
    formats: Vec<String>,
    transport: &Transport<'_>,
    media_attributes: Vec<Attribute>,
) {
    let mut attributes = transport_attributes(session, mid, transport);
    attributes.extend([Attribute::flag("rtcp-mux"), Attribute::flag("rtcp-mux-only")]);
    if offered.has("rtcp-rsize") {
        attributes.push(Attribute::flag("rtcp-rsize"));
    }
    attributes.extend(media_attributes);
    push(session, offered, formats, attributes);
}

/// Adds an accepted section of data channels.
pub(crate) fn push_data(
    session: &mut Session,
    offered: &Media,
    mid: &str,
    transport: &Transport<'_>,
    data_attributes: Vec<Attribute>,
) {
    let mut attributes = transport_attributes(session, mid, transport);
    attributes.extend(data_attributes);
    push(session, offered, offered.formats.clone(), attributes);
}

fn push(session: &mut Session, offered: &Media, formats: Vec<String>, attributes: Vec<Attribute>) {
    let (kind, protocol) = (offered.kind.clone(), offered.protocol.clone());
    session.media.push(Media { kind, port: PORT, protocol, formats, connection: None, attributes });
}

/// Transport attributes stand in each section, since some clients look only there; candidates only in the first, whose
/// transport the others share (RFC 9143, section 7.3).
fn transport_attributes(session: &Session, mid: &str, transport: &Transport<'_>) -> Vec<Attribute> {
    let is_first = session.media.iter().all(|media| media.port == 0);
    let mut attributes = Vec::new();
    if is_first {
        let candidates = transport.candidates.iter().take(CANDIDATES_MAX);
        attributes.extend(candidates.map(|candidate| Attribute::with("candidate", candidate)));
        attributes.push(Attribute::flag("end-of-candidates"));
    }
    attributes.extend([
        Attribute::with("ice-ufrag", &transport.ice.ufrag),
        Attribute::with("ice-pwd", &transport.ice.pwd),
        Attribute::with("fingerprint", &transport.fingerprint),
        Attribute::with("setup", transport.setup.as_str()),
        Attribute::with("mid", mid),
    ]);
    attributes
}

/// Adds a rejected section: port 0, and not in the bundle (RFC 8829, section 5.3.1).
pub(crate) fn push_rejected(session: &mut Session, offered: &Media) {
    let mut attributes = Vec::new();
    if let Some(mid) = offered.mid() {
        attributes.push(Attribute::with("mid", mid));
    }
    session.media.push(Media {
        kind: offered.kind.clone(),
        port: 0,
        protocol: offered.protocol.clone(),
        // One format has to stand there; which does not matter (RFC 3264, section 6).
        formats: offered.formats.iter().take(1).cloned().collect(),
        connection: None,
        attributes,
    });
}
