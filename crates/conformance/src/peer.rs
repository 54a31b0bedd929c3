//! A real peer on a session: ICE, DTLS and SRTP, with the signalling in the hands of the suite.

use std::time::Duration;

use client::{
    ConnectError, Ending, IceDescription, RestartError, Whep, WhepAnswer, WhepOffer, WhepPeer, Whip,
    WhipOffer, WhipPeer,
};
use model::{Codec, Rid};

use crate::checks::Trouble;
use crate::side::{Protocol, Session, Side};

/// How long ICE and DTLS may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a publisher of the suite sends.
const TRACKS: [Codec; 2] = [Codec::Opus, Codec::H264];

/// A peer that has made its offer.
pub(crate) enum PeerOffer {
    Publisher(WhipOffer),
    Viewer(WhepOffer),
}

/// A connected peer. Dropped, it vanishes without a word.
pub(crate) enum Peer {
    Publisher(WhipPeer),
    Viewer(WhepPeer),
}

/// How a peer offers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manner {
    /// No candidate stands in the offer.
    pub(crate) is_silent: bool,
    /// Simulcast layers of a publisher.
    pub(crate) layers: Vec<Rid>,
}

impl PeerOffer {
    pub(crate) async fn new(side: &Side, manner: &Manner) -> Result<Self, Trouble> {
        let url = side.url.as_str();
        match side.protocol {
            Protocol::Whip => {
                let options = client::whip::Options {
                    candidates_in_offer: !manner.is_silent,
                    layers: manner.layers.clone(),
                    patience: PATIENCE,
                    ..Default::default()
                };
                Ok(Self::Publisher(Whip::offer(url, &TRACKS, options).await.map_err(local)?))
            }
            Protocol::Whep => {
                let options =
                    client::whep::Options { candidates_in_offer: !manner.is_silent, ..viewer_options() };
                Ok(Self::Viewer(Whep::offer(url, options).await.map_err(local)?))
            }
        }
    }

    pub(crate) fn description(&self) -> String {
        match self {
            Self::Publisher(offer) => offer.description().to_owned(),
            Self::Viewer(offer) => offer.description().to_owned(),
        }
    }

    pub(crate) fn ice(&mut self) -> IceDescription {
        match self {
            Self::Publisher(offer) => offer.ice(),
            Self::Viewer(offer) => offer.ice(),
        }
    }

    pub(crate) async fn accept(self, answer: &str) -> Result<Peer, Trouble> {
        let connected = match self {
            Self::Publisher(offer) => offer.accept(answer).await.map(Peer::Publisher),
            Self::Viewer(offer) => offer.accept(answer).await.map(Peer::Viewer),
        };
        connected.map_err(|error| Trouble::Failed(format!("no connection comes about: {error}")))
    }
}

fn viewer_options() -> client::whep::Options {
    client::whep::Options { queue_packets_max: 0, patience: PATIENCE, ..Default::default() }
}

/// A viewer's answer to an offer of the server.
pub(crate) async fn answer(side: &Side, offer: &str) -> Result<WhepAnswer, Trouble> {
    let answer = Whep::answer(side.url.as_str(), offer, viewer_options()).await;
    answer.map_err(|error| match error {
        ConnectError::Offer { reason } => {
            Trouble::Failed(format!("the counter-offer cannot be answered: {reason}"))
        }
        error => local(error),
    })
}

/// What keeps this side from trying says nothing of the server.
fn local(error: ConnectError) -> Trouble {
    Trouble::Skipped(format!("no peer can be made here: {error}"))
}

impl Peer {
    /// A peer that is connected as browsers connect.
    pub(crate) async fn connect(side: &Side) -> Result<(Self, Session), Trouble> {
        Self::connect_in(side, &Manner::default()).await
    }

    pub(crate) async fn connect_in(side: &Side, manner: &Manner) -> Result<(Self, Session), Trouble> {
        let offer = PeerOffer::new(side, manner).await?;
        let session = side.session_with(offer.description()).await?;
        let peer = offer.accept(session.answer()).await?;
        Ok((peer, session))
    }

    /// Waits for the end of the session, at most `patience`.
    pub(crate) async fn ends_within(&self, patience: Duration) -> Option<Ending> {
        let ended = async {
            match self {
                Self::Publisher(peer) => peer.closed().await,
                Self::Viewer(peer) => peer.closed().await,
            }
        };
        tokio::time::timeout(patience, ended).await.ok()
    }

    pub(crate) async fn begin_restart(&self) -> Result<IceDescription, RestartError> {
        match self {
            Self::Publisher(peer) => peer.begin_restart().await,
            Self::Viewer(peer) => peer.begin_restart().await,
        }
    }

    pub(crate) async fn finish_restart(&self, server: IceDescription) -> Result<(), RestartError> {
        match self {
            Self::Publisher(peer) => peer.finish_restart(server, PATIENCE).await,
            Self::Viewer(peer) => peer.finish_restart(server, PATIENCE).await,
        }
    }
}
