//! `POST /whep/{broadcast}`: a viewer's offer becomes a session.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use egress::{OutTrack, ViewerId};
use model::{BroadcastId, BroadcastState, JoinName, Kind, Ssrc, Track};
use signaling::http::{EntityTag, Link, Problem};
use signaling::whep::{self, AcceptedMedia, Extension, counter_offer};
use signaling::{DtlsRole, SessionId, candidates, sdp};
use tracing::field::display;

use super::{
    Addresses, App, Created, CreatedKind, Posted, ShardPort, host_addresses, random, whep_events, whep_layers,
};
use crate::control::network;
use crate::handshakes::{self, Offer, Pending};
use crate::session_records::Resource;
use crate::sessions::{Came, Peer};
use crate::shard_load::{self, Candidate, Refusal};

/// The MediaStream that every viewer sees.
const STREAM_ID: &str = "media-tree";

/// The code of the problem that all shards are too busy.
pub const SHARDS_BUSY: &str = "shards-busy";

/// Seconds after which a refused viewer may come back: so many at least, and fewer than so many more.
const RETRY_AFTER_MIN: u32 = 3;
const RETRY_AFTER_SPREAD: u64 = 5;

/// Makes a viewer's session, or, where the draft has it, an offer of our own.
pub(super) async fn create(app: &Arc<App>, posted: Posted) -> Result<Created, Problem> {
    if app.shards.is_empty() {
        return Err(Problem::new(404, "not-an-egress-node", "This node does not serve viewers."));
    }
    let offer = sdp::Session::parse(&posted.body)
        .map_err(|error| Problem::from(signaling::OfferError::from(error)))?;
    let accepted = match whep::accept(&offer, &policy(app, &posted.broadcast)) {
        Ok(accepted) => accepted,
        Err(error) if counter_offer::is_called_for(&error) => {
            return super::counter_offers::make(app, &posted)?.ok_or_else(|| error.into());
        }
        Err(error) => return Err(error.into()),
    };
    let viewer = Viewer::new(app, &posted)?;
    let slot = Slot::take(app, &viewer, posted.addresses.peer.ip(), choose_shard(app))?;
    let answer = whep::answer(
        &accepted,
        &viewer.parameters(&own_fingerprint(app), &viewer_candidates(app, slot.shard, posted.addresses))?,
    );
    let (id, entity_tag) = (viewer.session, viewer.entity_tag.clone());
    begin(app, viewer, &accepted, slot).await?;
    let location = format!("{}/whep/{}/{id}", posted.origin, posted.broadcast);
    let extensions = extensions(&location);
    Ok(Created {
        kind: CreatedKind::Answer,
        description: answer,
        location,
        entity_tag,
        session: id,
        extensions,
    })
}

/// What a session at this URL offers beside media.
pub(super) fn extensions(location: &str) -> Vec<Link> {
    whep_events::link(location).into_iter().chain(whep_layers::link(location)).collect()
}

/// What viewers of a broadcast may get.
pub(super) fn policy(app: &App, broadcast: &BroadcastId) -> whep::Policy {
    let (on_air, has_choice) = (on_air(app, broadcast), has_choice(app, broadcast));
    whep::Policy { on_air, has_choice, ..whep::Policy::default() }
}

/// Whether the picture of a broadcast has layers, as far as that is known. Those within a stream are told by shards that
/// have viewers of it: the first one comes too early.
fn has_choice(app: &App, broadcast: &BroadcastId) -> bool {
    let entry = app.directory.get(broadcast);
    let track = entry.as_ref().and_then(|entry| entry.broadcast.track(Kind::Video));
    let are_several = |shard| app.layers(shard, broadcast).is_some_and(|layers| layers.len() > 1);
    track.is_some_and(|track| track.layers.len() > 1) || (0..app.shards.len()).any(are_several)
}

/// Our end of a viewer's session, before it is one.
pub(super) struct Viewer {
    pub(super) id: ViewerId,
    pub(super) session: SessionId,
    pub(super) entity_tag: EntityTag,
    pub(super) broadcast: BroadcastId,
    pub(super) join: JoinName,
    /// Whence it came, if the log is to say so.
    client: Option<IpAddr>,
    local: ice_dtls::IceCredentials,
    streams: Streams,
    cname: String,
}

impl Viewer {
    /// With random names and credentials.
    pub(super) fn new(app: &App, posted: &Posted) -> Result<Self, Problem> {
        Ok(Self {
            id: ViewerId::new(app.next_id.fetch_add(1, Ordering::Relaxed)),
            session: SessionId::from_random(random()?),
            entity_tag: EntityTag::from_random(random()?),
            broadcast: posted.broadcast.clone(),
            join: posted.join,
            client: app.sessions.shown(posted.addresses.peer.ip()),
            local: ice_dtls::IceCredentials::from_random(&random::<32>()?),
            streams: Streams::random()?,
            cname: format!("{:016x}", u64::from_be_bytes(random()?)),
        })
    }

    /// What our description says of it.
    pub(super) fn parameters<'a>(
        &'a self,
        fingerprint: &sdp::Fingerprint,
        candidates: &'a [sdp::Candidate],
    ) -> Result<whep::AnswerParameters<'a>, Problem> {
        let (ufrag, pwd) = (self.local.ufrag().to_owned(), self.local.pwd().to_owned());
        Ok(whep::AnswerParameters {
            ice: sdp::IceCredentials { ufrag, pwd },
            fingerprint: fingerprint.clone(),
            candidates,
            audio_ssrc: self.streams.audio,
            video_ssrc: self.streams.video,
            video_rtx_ssrc: self.streams.video_rtx,
            cname: &self.cname,
            stream_id: STREAM_ID,
            session_id: u64::from_be_bytes(random()?),
        })
    }
}

/// Where viewers reach a shard, as the one who asks knows this node.
pub(super) fn viewer_candidates(app: &App, shard: usize, addresses: Addresses) -> Vec<sdp::Candidate> {
    let port = app.shards[shard].port;
    candidates::order(&candidates::Known {
        public_ips: &app.public_ips,
        request_local: addresses.local.ip(),
        request_peer: addresses.peer.ip(),
        is_passed_on: addresses.is_passed_on,
        host_addresses: &host_addresses(),
        port,
        has_tcp: app.tcp_ports.contains(&port),
    })
}

/// Begins a session with a viewer that has said what it takes.
pub(super) async fn begin(
    app: &Arc<App>,
    viewer: Viewer,
    accepted: &whep::Accepted<'_>,
    slot: Slot<'_>,
) -> Result<(), Problem> {
    let now = Instant::now();
    let Viewer { id, session, entity_tag, broadcast, join, client, local, streams, cname } = viewer;
    let handshake = ice_dtls::Handshake::new(
        ice_dtls::HandshakeConfig {
            ice: ice_dtls::IceConfig {
                local: local.clone(),
                remote: peer_credentials(&accepted.peer.ice),
                random: random()?,
            },
            remote_fingerprint: peer_fingerprint(&accepted.peer.fingerprint)?,
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
        id: session,
        broadcast: broadcast.clone(),
        entity_tag,
        peer_ice: accepted.peer.ice.clone(),
        picture_line: accepted.line(Kind::Video),
    };
    // The session first, since its end may be told at once; then the shard: checks may arrive as soon as the answer is
    // out, and must find their way to the worker.
    let first_mid = accepted.bundle_mids().next().cloned();
    let shard = slot.shard;
    let port = &app.shards[shard];
    let came = Came { join: Some(join), client, obs: None };
    app.sessions.insert(&resource, Peer::Viewer(id, shard), came, first_mid);
    if !port.handle.register(id, resource, local, join) {
        app.sessions.end_viewer(id);
        return Err(Problem::overloaded(2));
    }
    slot.keep();
    let client_address = client.map(display);
    tracing::debug!(%broadcast, viewer = id.get(), %join, client_address, shard, "viewer accepted");
    let pending = Pending { viewer: id, broadcast, handshake, offer, since: now };
    if port.handshakes.try_send(handshakes::Command::Begin(Box::new(pending))).is_err() {
        super::end(app, Peer::Viewer(id, shard)).await;
        return Err(Problem::overloaded(2));
    }
    Ok(())
}

/// A run that is so young may still be described by what its publisher has offered and not sent yet.
const UNSURE: Duration = Duration::from_secs(2);

/// What viewers must be able to play: the tracks of a live broadcast that media has come of. Those of one that waits are of
/// a run that is over, and the next may be coded otherwise.
fn on_air(app: &App, broadcast: &BroadcastId) -> Vec<Track> {
    let entry = app.directory.get(broadcast);
    let is_sure = |since: SystemTime| since.elapsed().is_ok_and(|age| age >= UNSURE);
    let live = entry.filter(|entry| entry.broadcast.state == BroadcastState::Live && is_sure(entry.since));
    let tracks = live.map(|entry| entry.broadcast.tracks).unwrap_or_default();
    tracks.into_iter().filter(|track| track.was_heard).collect()
}

fn peer_credentials(ice: &sdp::IceCredentials) -> ice_dtls::PeerCredentials {
    ice_dtls::PeerCredentials { ufrag: ice.ufrag.clone(), pwd: ice.pwd.clone() }
}

pub(super) fn own_fingerprint(app: &App) -> sdp::Fingerprint {
    let bytes = app.certificate.fingerprint().as_bytes().to_vec();
    sdp::Fingerprint { algorithm: sdp::HashAlgorithm::Sha256, bytes }
}

fn peer_fingerprint(offered: &sdp::Fingerprint) -> Result<ice_dtls::Fingerprint, Problem> {
    let unusable = |_| Problem::new(422, "offer-fingerprint", "The fingerprint of the offer cannot be used.");
    offered.to_string().parse().map_err(unusable)
}

/// A viewer's slot on a shard; given back when dropped, or, once kept, when the viewer's end
/// is told.
pub(super) struct Slot<'a> {
    app: &'a App,
    viewer: ViewerId,
    shard: usize,
    is_kept: bool,
}

impl<'a> Slot<'a> {
    /// On the shard that was chosen.
    pub(super) fn take(
        app: &'a App,
        viewer: &Viewer,
        client: IpAddr,
        chosen: Result<usize, Refusal>,
    ) -> Result<Self, Problem> {
        let (viewer, broadcast) = (viewer.id, &viewer.broadcast);
        let index = chosen.map_err(|refusal| refuse(refusal, viewer))?;
        let shard = &app.shards[index];
        if shard.occupied.fetch_add(1, Ordering::Relaxed) >= shard.slots {
            shard.occupied.fetch_sub(1, Ordering::Relaxed);
            return Err(refuse(Refusal::Full, viewer));
        }
        let slot = Self { app, viewer, shard: index, is_kept: false };
        if !network::carries_one_more(app, broadcast) {
            let detail = "What the network of this server carries is promised to others. Try again soon.";
            return Err(
                Problem::new(503, "network-full", detail).with_header("Retry-After", retry_after(viewer))
            );
        }
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

/// The shard that is least loaded.
pub(super) fn choose_shard(app: &App) -> Result<usize, Refusal> {
    let candidate = |shard: &ShardPort| Candidate {
        load: shard.load.share(),
        viewers_then: shard.load.viewers(),
        occupied: shard.occupied.load(Ordering::Relaxed),
        slots: shard.slots,
    };
    let candidates: Vec<Candidate> = app.shards.iter().map(candidate).collect();
    shard_load::choose(&candidates, app.shard_load_max)
}

/// A crowd is told different times, so as not to come back as one.
const fn retry_after(viewer: ViewerId) -> u32 {
    RETRY_AFTER_MIN + (viewer.get() % RETRY_AFTER_SPREAD) as u32
}

/// What a viewer is told that no shard takes.
pub(super) fn refuse(refusal: Refusal, viewer: ViewerId) -> Problem {
    let retry_after = retry_after(viewer);
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
            transport_sequence: id(Extension::TransportSequence),
        },
        nack: media.payloads.iter().any(|payload| payload.feedback.nack),
    }
}
