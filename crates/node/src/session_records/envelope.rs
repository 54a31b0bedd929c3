//! What a record holds beside the core's part: the HTTP resource of the session, and what else the shell knows of it.
//!
//! The layout is fixed by [`VERSION`]; the core's part has a version of its own.

use egress::ViewerRecord;
use ice_dtls::IceCredentials;
use ingest::PublisherRecord;
use model::{BroadcastId, Epoch};
use octets::{Reader, Writer};
use signaling::http::EntityTag;
use signaling::{SessionId, sdp};
use zeroize::Zeroizing;

/// Layout of the bytes.
const VERSION: u8 = 2;
/// An earlier one, which did not have the line of the picture.
const VERSION_WITHOUT_PICTURE_LINE: u8 = 1;
/// Longest user fragment or password (RFC 8839, section 5.4).
const ICE_BYTES_MAX: usize = 256;
/// Ids, tags and names of broadcasts are shorter.
const NAME_BYTES_MAX: usize = 64;

/// The HTTP resource of a session, as its POST made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The last part of its URL.
    pub id: SessionId,
    /// What it publishes or watches: the part of its URL before.
    pub broadcast: BroadcastId,
    /// Names its ICE session.
    pub entity_tag: EntityTag,
    /// The peer's ICE credentials, that PATCH compares.
    pub peer_ice: sdp::IceCredentials,
    /// Which of its m-lines, counted from 0, is what a viewer sees.
    pub picture_line: Option<u8>,
}

/// Why bytes are no record of a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by another version of this program.
    #[error("layout {version} of a session's record is unknown")]
    Version {
        /// The one it says it has.
        version: u8,
    },
    /// The bytes end too early or say what cannot be.
    #[error("a session's record is broken")]
    Malformed,
    /// The core's part of a viewer.
    #[error(transparent)]
    Viewer(#[from] egress::DecodeError),
    /// The core's part of a publisher.
    #[error(transparent)]
    Publisher(#[from] ingest::DecodeError),
}

/// A viewer's session as the shell knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Viewer {
    /// Its URL.
    pub resource: Resource,
    /// Our end of ICE: what its checks are addressed to and answered with.
    pub local: IceCredentials,
}

impl Viewer {
    /// The bytes of its record.
    pub fn encode(&self, record: &ViewerRecord) -> Zeroizing<Vec<u8>> {
        let mut out = begin(&self.resource);
        write_ice(&mut out, self.local.ufrag(), self.local.pwd());
        out.rest(&record.encode());
        out.finish()
    }

    /// Reads what [`Viewer::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<(Self, ViewerRecord), DecodeError> {
        let (mut input, version) = open(bytes)?;
        let viewer = read_resource(&mut input, version).and_then(|resource| {
            let (ufrag, pwd) = read_ice(&mut input)?;
            Some(Self { resource, local: IceCredentials::new(&ufrag, &pwd).ok()? })
        });
        Ok((viewer.ok_or(DecodeError::Malformed)?, ViewerRecord::decode(input.rest())?))
    }
}

/// A publisher's session as the shell knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publisher {
    /// Its URL.
    pub resource: Resource,
    /// The publishing run that it is, once its media has begun.
    pub epoch: Option<Epoch>,
}

impl Publisher {
    /// The bytes of its record.
    pub fn encode(&self, record: &PublisherRecord) -> Zeroizing<Vec<u8>> {
        let mut out = begin(&self.resource);
        out.option(self.epoch, |out, epoch| {
            out.u64(epoch.counter);
            out.u64(epoch.random);
        });
        out.rest(&record.encode());
        out.finish()
    }

    /// Reads what [`Publisher::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<(Self, PublisherRecord), DecodeError> {
        let (mut input, version) = open(bytes)?;
        let publisher = read_resource(&mut input, version).and_then(|resource| {
            let epoch = input.option(|input| Some(Epoch { counter: input.u64()?, random: input.u64()? }))?;
            Some(Self { resource, epoch })
        });
        Ok((publisher.ok_or(DecodeError::Malformed)?, PublisherRecord::decode(input.rest())?))
    }
}

fn begin(resource: &Resource) -> Writer {
    let mut out = Writer::default();
    out.u8(VERSION);
    for text in [&resource.id.to_string(), resource.broadcast.as_str(), &resource.entity_tag.to_string()] {
        out.bytes(text.as_bytes());
    }
    write_ice(&mut out, &resource.peer_ice.ufrag, &resource.peer_ice.pwd);
    out.option(resource.picture_line, |out, line| out.u8(line));
    out
}

fn open(bytes: &[u8]) -> Result<(Reader<'_>, u8), DecodeError> {
    let mut input = Reader::new(bytes);
    match input.u8() {
        Some(version @ (VERSION | VERSION_WITHOUT_PICTURE_LINE)) => Ok((input, version)),
        Some(version) => Err(DecodeError::Version { version }),
        None => Err(DecodeError::Malformed),
    }
}

fn read_resource(input: &mut Reader<'_>, version: u8) -> Option<Resource> {
    let id = input.text(NAME_BYTES_MAX)?.parse().ok()?;
    let broadcast = BroadcastId::new(&input.text(NAME_BYTES_MAX)?).ok()?;
    let entity_tag = entity_tag(&input.text(NAME_BYTES_MAX)?)?;
    let (ufrag, pwd) = read_ice(input)?;
    let has_line = version != VERSION_WITHOUT_PICTURE_LINE;
    let picture_line = if has_line { input.option(Reader::u8)? } else { None };
    let peer_ice = sdp::IceCredentials { ufrag, pwd };
    Some(Resource { id, broadcast, entity_tag, peer_ice, picture_line })
}

/// The tag with this text, if it is one of ours.
fn entity_tag(text: &str) -> Option<EntityTag> {
    let digits = text.strip_prefix('"')?.strip_suffix('"')?;
    let tag = EntityTag::from_random(u64::from_str_radix(digits, 16).ok()?.to_be_bytes());
    (tag.to_string() == text).then_some(tag)
}

fn write_ice(out: &mut Writer, ufrag: &str, pwd: &str) {
    out.bytes(ufrag.as_bytes());
    out.bytes(pwd.as_bytes());
}

fn read_ice(input: &mut Reader<'_>) -> Option<(String, String)> {
    Some((input.text(ICE_BYTES_MAX)?, input.text(ICE_BYTES_MAX)?))
}

#[cfg(test)]
mod tests {
    use egress::{CounterBlock, Path, ViewerId};
    use proptest::prelude::*;
    use srtp::{MasterKey, Profile};

    use super::*;

    fn core_part() -> ViewerRecord {
        let key = MasterKey::new(Profile::AeadAes128Gcm, &[1; 16], &[2; 12]).expect("a key");
        ViewerRecord {
            id: ViewerId::new(7),
            broadcast: BroadcastId::new("show").expect("an id"),
            path: Path { local: [10, 0, 0, 1].into(), remote: ([10, 0, 0, 2], 4000).into() },
            send: key.clone(),
            receive: key,
            audio: None,
            video: None,
            cname: "name".into(),
            srtcp_index: CounterBlock::starting_at(0),
            srtcp_received: None,
        }
    }

    prop_compose! {
        fn resources()(
            id: [u8; 16],
            broadcast in "[a-z0-9][a-z0-9._-]{0,62}",
            tag: [u8; 8],
            (ufrag, pwd) in ("[a-zA-Z0-9+/]{4,256}", "[a-zA-Z0-9+/]{22,256}"),
            picture_line: Option<u8>,
        ) -> Resource {
            Resource {
                id: SessionId::from_random(id),
                broadcast: BroadcastId::new(&broadcast).expect("an id"),
                entity_tag: EntityTag::from_random(tag),
                peer_ice: sdp::IceCredentials { ufrag, pwd },
                picture_line,
            }
        }
    }

    proptest! {
        #[test]
        fn a_viewer_comes_back_with_its_resource(resource in resources(), random: [u8; 32]) {
            let viewer = Viewer { resource, local: IceCredentials::from_random(&random) };
            let (back, record) = Viewer::decode(&viewer.encode(&core_part())).expect("its own bytes");
            prop_assert_eq!((back, record.id), (viewer, ViewerId::new(7)));
        }

        #[test]
        fn a_cut_record_is_refused(resource in resources(), keep in any::<prop::sample::Index>()) {
            let viewer = Viewer { resource, local: IceCredentials::from_random(&[3; 32]) };
            let bytes = viewer.encode(&core_part());
            prop_assert!(Viewer::decode(&bytes[..keep.index(bytes.len())]).is_err());
        }

        #[test]
        fn a_publishers_part_does_not_pass_for_another_core_s(resource in resources(), epoch: Option<(u64, u64)>) {
            let epoch = epoch.map(|(counter, random)| Epoch { counter, random });
            let mut out = begin(&resource);
            out.option(epoch, |out, epoch| {
                out.u64(epoch.counter);
                out.u64(epoch.random);
            });
            let refused = Publisher::decode(&out.finish());
            prop_assert_eq!(refused.err(), Some(DecodeError::Publisher(ingest::DecodeError::Malformed)));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut bytes = bytes;
            for _ in 0..2 {
                let _ = Viewer::decode(&bytes);
                let _ = Publisher::decode(&bytes);
                if let Some(first) = bytes.first_mut() {
                    *first = VERSION;
                }
            }
        }
    }

    #[test]
    fn another_version_is_refused() {
        assert_eq!(Viewer::decode(&[9]).err(), Some(DecodeError::Version { version: 9 }));
        assert_eq!(Publisher::decode(&[9]).err(), Some(DecodeError::Version { version: 9 }));
    }
}
