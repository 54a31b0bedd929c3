//! `POST /whep/{broadcast}`: a viewer's offer becomes a session.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use egress::{OutTrack, ViewerId};
use model::{BroadcastId, BroadcastState, Kind, Ssrc, Track};
use signaling::http::{EntityTag, Problem};
use signaling::whep::{self, AcceptedMedia, Extension};
use signaling::{DtlsRole, SessionId, candidates, sdp};

use super::{App, Created, Posted, ShardPort, host_addresses, random, whep_events, whep_layers};
use crate::handshakes::{self, Offer, Pending};
use crate::session_records::Resource;
use crate::sessions::Peer;
use crate::shard_load::{self, Candidate, Refusal};

/// The MediaStream that every viewer sees.
const STREAM_ID: &str = "media-tree";

/// The code of the problem that all shards are too busy.
pub const SHARDS_BUSY: &str = "shards-busy";

/// Seconds after which a refused viewer may come back: so many at least, and fewer than so many more.
const RETRY_AFTER_MIN: u32 = 3;
const RETRY_AFTER_SPREAD: u64 = 5;

/// Makes a viewer's session.
pub(super) async fn create(app: &Arc<App>, posted: Posted) -> Result<Created, Problem> {
    if app.shards.is_empty() {
        return Err(Problem::new(404, "not-an-egress-node", "This node does not serve viewers."));
    }
    let offer = sdp::Session::parse(&posted.body)
        .map_err(|error| Problem::from(signaling::OfferError::from(error)))?;
    let policy = whep::Policy { on_air: on_air(app, &posted.broadcast), ..whep::Policy::default() };
    let accepted = whep::accept(&offer, &policy)?;
    let streams = Streams::random()?;
    let cname = format!("{:016x}", u64::from_be_bytes(random()?));
    let local = ice_dtls::IceCredentials::from_random(&random::<32>()?);
    let viewer = ViewerId::new(app.next_id.fetch_add(1, Ordering::Relaxed));
    let slot = Slot::take(app, viewer, posted.addresses.peer.ip())?;
    let shard = slot.shard;
    let port = &app.shards[shard];
    let host = host_addresses();
    let candidates = candidates::order(&candidates::Known {
        public_ip: app.public_ip,
        request_local: posted.addresses.local.ip(),
        request_peer: posted.addresses.peer.ip(),
        host_addresses: &host,
        port: port.port,
        has_tcp: app.tcp_ports.contains(&port.port),
    });
    let theirs = peer_fingerprint(&accepted.peer.fingerprint)?;
    let answer = whep::answer(
        &accepted,
        &whep::AnswerParameters {
            ice: sdp::IceCredentials { ufrag: local.ufrag().to_owned(), pwd: local.pwd().to_owned() },
            fingerprint: own_fingerprint(app),
            candidates: &candidates,
            audio_ssrc: streams.audio,
            video_ssrc: streams.video,
            video_rtx_ssrc: streams.video_rtx,
            cname: &cname,
            stream_id: STREAM_ID,
            session_id: u64::from_be_bytes(random()?),
        },
    );
    let now = Instant::now();
    let handshake = ice_dtls::Handshake::new(
        ice_dtls::HandshakeConfig {
            ice: ice_dtls::IceConfig {
                local: local.clone(),
                remote: peer_credentials(&accepted.peer.ice),
                random: random()?,
            },
            remote_fingerprint: theirs,
            certificate: app.certificate.clone(),
            dtls_role: match accepted.peer.dtls_role {
                DtlsRole::Client => ice_dtls::DtlsRole::Client,
                DtlsRole::Server => ice_dtls::DtlsRole::Server,
            },
        },
        now,
    );
    let offer = Offer {
        audio: accepted.media(Kind::Audio).map(|media| out_track(media, streams.audio, None)),
        video: accepted
            .media(Kind::Video)
            .map(|media| out_track(media, streams.video, Some(streams.video_rtx))),
        random: random()?,
        cname,
    };
    let resource = Resource {
        id: SessionId::from_random(random()?),
        broadcast: posted.broadcast.clone(),
        entity_tag: EntityTag::from_random(random()?),
        peer_ice: accepted.peer.ice.clone(),
        picture_line: accepted.line(Kind::Video),
    };
    let (id, entity_tag) = (resource.id, resource.entity_tag.clone());
    // The session first, since its end may be told at once; then the shard: checks may arrive as soon as the answer is
    // out, and must find their way to the worker.
    let first_mid = accepted.bundle_mids().next().cloned();
    app.sessions.insert(&resource, Peer::Viewer(viewer, shard), Some(posted.join), first_mid);
    if !port.handle.register(viewer, resource, local, posted.join) {
        app.sessions.end_viewer(viewer);
        return Err(Problem::overloaded(2));
    }
    slot.keep();
    let pending = Pending { viewer, broadcast: posted.broadcast.clone(), handshake, offer, since: now };
    if port.handshakes.try_send(handshakes::Command::Begin(Box::new(pending))).is_err() {
        super::end(app, Peer::Viewer(viewer, shard)).await;
        return Err(Problem::overloaded(2));
    }
    tracing::debug!(broadcast = %posted.broadcast, viewer = viewer.get(), join = %posted.join, shard, "viewer accepted");
    let location = format!("{}/whep/{}/{id}", posted.origin, posted.broadcast);
    let extensions = whep_events::link(&location).into_iter().chain(whep_layers::link(&location)).collect();
    Ok(Created { answer, location, entity_tag, session: id, extensions })
}

/// What viewers must be able to play: the tracks of a live broadcast. Those of one that waits are of a run that is over,
/// and the next may be coded otherwise.
fn on_air(app: &App, broadcast: &BroadcastId) -> Vec<Track> {
    let entry = app.directory.get(broadcast);
    let live = entry.filter(|entry| entry.broadcast.state == BroadcastState::Live);
    live.map(|entry| entry.broadcast.tracks).unwrap_or_default()
}

fn peer_credentials(ice: &sdp::IceCredentials) -> ice_dtls::PeerCredentials {
    ice_dtls::PeerCredentials { ufrag: ice.ufrag.clone(), pwd: ice.pwd.clone() }
}

fn own_fingerprint(app: &App) -> sdp::Fingerprint {
    let bytes = app.certificate.fingerprint().as_bytes().to_vec();
    sdp::Fingerprint { algorithm: sdp::HashAlgorithm::Sha256, bytes }
}

fn peer_fingerprint(offered: &sdp::Fingerprint) -> Result<ice_dtls::Fingerprint, Problem> {
    let unusable = |_| Problem::new(422, "offer-fingerprint", "The fingerprint of the offer cannot be used.");
    offered.to_string().parse().map_err(unusable)
}

/// A viewer's slot on the shard that is least loaded; given back when dropped, or, once kept, when the viewer's end
/// is told.
struct Slot<'a> {
    app: &'a App,
    viewer: ViewerId,
    shard: usize,
    is_kept: bool,
}

impl<'a> Slot<'a> {
    fn take(app: &'a App, viewer: ViewerId, client: IpAddr) -> Result<Self, Problem> {
        let index = choose_shard(app).map_err(|refusal| refuse(refusal, viewer))?;
        let shard = &app.shards[index];
        if shard.occupied.fetch_add(1, Ordering::Relaxed) >= shard.slots {
            shard.occupied.fetch_sub(1, Ordering::Relaxed);
            return Err(refuse(Refusal::Full, viewer));
        }
        let slot = Self { app, viewer, shard: index, is_kept: false };
        app.pending.begin(viewer, client)?;
        Ok(slot)
    }

    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.app.pending.end(self.viewer);
            self.app.shards[self.shard].occupied.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn choose_shard(app: &App) -> Result<usize, Refusal> {
    let candidate = |shard: &ShardPort| Candidate {
        load: shard.load.share(),
        viewers_then: shard.load.viewers(),
        occupied: shard.occupied.load(Ordering::Relaxed),
        slots: shard.slots,
    };
    let candidates: Vec<Candidate> = app.shards.iter().map(candidate).collect();
    shard_load::choose(&candidates, app.shard_load_max)
}

/// What a viewer is told that no shard takes; a crowd is told different times, so as not to come back as one.
fn refuse(refusal: Refusal, viewer: ViewerId) -> Problem {
    let retry_after = RETRY_AFTER_MIN + (viewer.get() % RETRY_AFTER_SPREAD) as u32;
    match refusal {
        Refusal::Full => Problem::overloaded(retry_after),
        Refusal::Overloaded => {
            let detail = "This server is too busy to take more viewers at the moment. Try again soon.";
            Problem::new(503, SHARDS_BUSY, detail).with_header("Retry-After", retry_after)
        }
    }
}

/// The SSRCs of one viewer, all different.
struct Streams {
    audio: Ssrc,
    video: Ssrc,
    video_rtx: Ssrc,
}

impl Streams {
    fn random() -> Result<Self, Problem> {
        let first = u32::from_be_bytes(random()?);
        let ssrc = |offset: u32| Ssrc::new(first.wrapping_add(offset));
        Ok(Self { audio: ssrc(0), video: ssrc(1), video_rtx: ssrc(2) })
    }
}

fn out_track(media: &AcceptedMedia, ssrc: Ssrc, rtx_ssrc: Option<Ssrc>) -> OutTrack {
    let has_rtx = media.payloads.iter().any(|payload| payload.rtx_payload_type.is_some());
    let id = |extension| media.extension_id(extension);
    OutTrack {
        mid: media.mid.clone(),
        ssrc,
        rtx_ssrc: rtx_ssrc.filter(|_| has_rtx),
        formats: media
            .payloads
            .iter()
            .map(|payload| egress::Format {
                codec: payload.codec,
                fmtp: payload.fmtp.clone().unwrap_or_default().into(),
                payload_type: payload.payload_type,
                rtx_payload_type: payload.rtx_payload_type,
            })
            .collect(),
        extensions: egress::Extensions {
            mid: id(Extension::Mid),
            abs_capture_time: id(Extension::AbsCaptureTime),
            audio_level: id(Extension::AudioLevel),
            video_orientation: id(Extension::VideoOrientation),
        },
        nack: media.payloads.iter().any(|payload| payload.feedback.nack),
    }
}
