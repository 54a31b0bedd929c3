//! The description of what is published: first from the offer, then from the media.

use std::cmp::Reverse;
use std::time::Duration;

use model::{Codec, Layer, Track};

use super::offer::{self, Payload};
use super::{Output, Publisher};

/// How often the order of layers is looked at until every layer has sent.
const ORDER_INTERVAL: Duration = Duration::from_secs(1);
/// Packets of a layer that tell its bitrate from another's.
const ORDER_PACKETS_MIN: u64 = 30;

impl Publisher {
    /// Announces the tracks if they are not as last announced. Every section of the offer is announced at once, with
    /// the codec it would prefer until its media shows another: a viewer that is answered between the first audio
    /// packet and the first video packet must not be left without picture.
    pub(super) fn announce(&mut self) {
        if self.announced.is_none() && self.sections.iter().any(|section| section.rids.len() > 1) {
            self.look_at = Some(self.now + ORDER_INTERVAL);
        }
        let tracks = self.tracks();
        if self.announced.as_ref() != Some(&tracks) {
            self.announced = Some(tracks.clone());
            self.outputs.push_back(Output::Tracks(tracks));
        }
    }

    fn tracks(&self) -> Vec<Track> {
        let sections = self.sections.iter().zip(&self.order);
        sections
            .map(|(section, order)| {
                let payload_type = order.iter().find_map(|index| self.streams[*index].payload_type);
                let used = payload_type.and_then(|number| offer::find(&self.sections, number));
                let payload = used.map_or(&section.payloads[0], |(_, payload, _)| payload);
                let picture = order.iter().find_map(|index| self.streams[*index].picture);
                let layers = order
                    .iter()
                    .map(|index| Layer {
                        ssrc: self.streams[*index].ssrc,
                        rid: section.rids.get(self.streams[*index].layer).cloned(),
                    })
                    .collect();
                Track {
                    codec: payload.codec,
                    fmtp: fmtp(payload, picture.map(|p| p.profile_level_id)),
                    layers,
                }
            })
            .collect()
    }

    /// Puts the layers into the order of their size, once every one has sent: browsers list them in either order. Before
    /// that, the order of the offer holds.
    pub(super) fn settle_order(&mut self) {
        self.look_at = Some(self.now + ORDER_INTERVAL);
        if self
            .streams
            .iter()
            .any(|stream| self.is_layered(stream.section) && stream.packets() < ORDER_PACKETS_MIN)
        {
            return;
        }
        self.look_at = None;
        for section in 0..self.order.len() {
            let mut order = std::mem::take(&mut self.order[section]);
            let has_pictures = order.iter().all(|index| self.streams[*index].picture.is_some());
            order.sort_by_key(|index| {
                let stream = &self.streams[*index];
                let pixels =
                    stream.picture.map_or(0, |picture| u64::from(picture.width) * u64::from(picture.height));
                Reverse(if has_pictures { pixels } else { stream.bitrate(self.now).as_bps() })
            });
            self.order[section] = order;
        }
        self.announce();
    }

    fn is_layered(&self, section: usize) -> bool {
        self.sections[section].rids.len() > 1
    }
}

/// The offer's format parameters, with the profile that the stream really has.
fn fmtp(payload: &Payload, profile_level_id: Option<[u8; 3]>) -> Box<str> {
    let Some([profile, constraints, level]) = profile_level_id.filter(|_| payload.codec == Codec::H264)
    else {
        return payload.fmtp.as_str().into();
    };
    let others = payload.fmtp.split(';').map(str::trim).filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        !name.is_empty() && !name.eq_ignore_ascii_case("profile-level-id")
    });
    let real = format!("profile-level-id={profile:02x}{constraints:02x}{level:02x}");
    others.map(str::to_owned).chain([real]).collect::<Vec<_>>().join(";").into()
}
