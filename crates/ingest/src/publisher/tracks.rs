//! The description of what is published: first from the offer, then from the media.

use std::cmp::Reverse;
use std::time::Duration;

use media_core::codec::Profile;
use model::{Codec, Layer, Track};

use super::offer;
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
                let profile = order.iter().find_map(|index| self.streams[*index].profile);
                let layers = order
                    .iter()
                    .map(|index| Layer {
                        ssrc: self.streams[*index].ssrc,
                        rid: section.rids.get(self.streams[*index].layer).cloned(),
                    })
                    .collect();
                Track {
                    codec: payload.codec,
                    fmtp: fmtp((payload.codec, &payload.fmtp), picture.map(|p| p.profile_level_id), profile),
                    layers,
                    was_heard: payload_type.is_some(),
                }
            })
            .collect()
    }

    /// Puts the layers into the order of their size, as far as they have sent; looks again until every one has.
    pub(super) fn settle_order(&mut self) {
        let mut is_settled = true;
        let before = self.order.clone();
        for section in 0..self.order.len() {
            if !self.is_layered(section) {
                continue;
            }
            let offered: Vec<usize> =
                (0..self.streams.len()).filter(|index| self.streams[*index].section == section).collect();
            let has_pictures = offered.iter().all(|index| self.streams[*index].picture.is_some());
            let worth = |index: &usize| {
                let stream = &self.streams[*index];
                let pixels =
                    stream.picture.map_or(0, |picture| u64::from(picture.width) * u64::from(picture.height));
                // Sizes need no time to show. A small layer has sent few packets when a large one has sent many, and a
                // lone one that has would be taken for the smallest.
                let has_shown = has_pictures || stream.packets() >= ORDER_PACKETS_MIN;
                has_shown.then(|| if has_pictures { pixels } else { stream.bitrate(self.now).as_bps() })
            };
            let worths: Vec<Option<u64>> = offered.iter().map(worth).collect();
            is_settled &= worths.iter().all(Option::is_some);
            self.order[section] = best_first(&worths).into_iter().map(|place| offered[place]).collect();
        }
        self.look_at = (!is_settled).then(|| self.now + ORDER_INTERVAL);
        if is_settled || self.order != before {
            self.announce();
        }
    }

    fn is_layered(&self, section: usize) -> bool {
        self.sections[section].rids.len() > 1
    }
}

/// The places of layers, best first. `worths` is what each is worth, in the order of the offer; `None` if it has not sent
/// enough to tell.
///
/// Publishers list them from either end, and browsers begin with the smallest and add the others as their uplink proves to
/// carry them. So the order of those that have sent, or the end at which a lone one stands, tells how all were listed.
fn best_first(worths: &[Option<u64>]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..worths.len()).collect();
    if worths.iter().all(Option::is_some) {
        places.sort_by_key(|place| Reverse(worths[*place]));
        return places;
    }
    let known: Vec<(usize, u64)> =
        worths.iter().enumerate().filter_map(|(place, worth)| Some((place, (*worth)?))).collect();
    let is_smallest_first = match known.as_slice() {
        [] => false,
        [(place, _)] => *place == 0,
        [(_, first), .., (_, last)] => first < last,
    };
    if is_smallest_first {
        places.reverse();
    }
    places
}

/// The offer's format parameters for a codec, with the profile that the stream really has.
fn fmtp(
    (codec, claimed): (Codec, &str),
    profile_level_id: Option<[u8; 3]>,
    profile: Option<Profile>,
) -> Box<str> {
    let real = match codec {
        Codec::H264 => {
            let hex =
                |[profile, constraints, level]: [u8; 3]| format!("{profile:02x}{constraints:02x}{level:02x}");
            profile_level_id.map(|id| vec![("profile-level-id", hex(id))]).unwrap_or_default()
        }
        // A stream that has changed its codec may still be known by the one before.
        Codec::Opus | Codec::H265 | Codec::Vp8 | Codec::Vp9 | Codec::Av1 => {
            profile.filter(|profile| profile.codec() == codec).map(with_texts).unwrap_or_default()
        }
    };
    let others = claimed.split(';').map(str::trim).filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        !name.is_empty() && real.iter().all(|(known, _)| !name.eq_ignore_ascii_case(known))
    });
    let real_pairs = real.iter().map(|(name, value)| format!("{name}={value}"));
    others.map(str::to_owned).chain(real_pairs).collect::<Vec<_>>().join(";").into()
}

fn with_texts(profile: Profile) -> Vec<(&'static str, String)> {
    profile.parameters().into_iter().map(|(name, value)| (name, value.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use media_core::codec::Profile;
    use model::Codec;

    use super::{best_first, fmtp};

    #[test]
    fn what_the_media_says_takes_the_place_of_what_was_claimed() {
        let h264 = (Codec::H264, "Profile-Level-Id=42e01f; packetization-mode=1");
        let real = fmtp(h264, Some([0x64, 0, 0x2a]), None);
        assert_eq!(&*real, "packetization-mode=1;profile-level-id=64002a");
        assert_eq!(&*fmtp(h264, None, None), "Profile-Level-Id=42e01f;packetization-mode=1");
        let h265 = (Codec::H265, "level-id=93;profile-id=1;tx-mode=SRST");
        let profile = Some(Profile::H265 { profile: 2, tier: 0, level: 153 });
        let expected = "tx-mode=SRST;profile-id=2;tier-flag=0;level-id=153";
        assert_eq!(&*fmtp(h265, Some([0x64, 0, 0x2a]), profile), expected);
        let vp9 = (Codec::Vp9, "profile-id=0");
        assert_eq!(&*fmtp(vp9, None, profile), "profile-id=0", "of the codec before");
    }

    #[test]
    fn layers_are_put_into_order_as_far_as_they_have_sent() {
        assert_eq!(best_first(&[Some(100), Some(900), Some(400)]), [1, 2, 0]);
        assert_eq!(best_first(&[Some(900), Some(400), Some(100)]), [0, 1, 2]);
        assert_eq!(best_first(&[Some(100), None, None]), [2, 1, 0], "a browser begins with the smallest");
        assert_eq!(best_first(&[None, None, Some(100)]), [0, 1, 2]);
        assert_eq!(best_first(&[Some(100), Some(400), None]), [2, 1, 0]);
        assert_eq!(best_first(&[None, Some(400), Some(100)]), [0, 1, 2]);
        assert_eq!(best_first(&[None, None, None]), [0, 1, 2], "as offered");
        assert_eq!(best_first(&[Some(5)]), [0]);
    }
}
