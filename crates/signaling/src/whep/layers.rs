//! Choosing a layer of the picture (WHEP, "Video Layer Selection extension"), and what the event `layers` tells of them.
//!
//! `mediaId` is the number of the picture's m-line in the answer, counted from 0. Layers are those of simulcast, named by
//! their RIDs; or the parts of one RTP stream of several layers (SVC), which have their spatial and temporal ids, and names
//! made of these. A picture that comes in one layer is called spatial layer 0.

use model::Rid;
use serde_json::{Value, json};

use crate::http::{Problem, check_content_type};

/// The extension, as [`crate::http::Link::whep_extension`] takes it.
pub const EXTENSION: &str = "core:layer";
/// Media type of what is posted.
pub const JSON: &str = "application/json";

/// One layer of the picture, as players are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The publisher's name for it, or ours for a part of a stream; none if there is but one layer.
    pub rid: Option<Rid>,
    /// Spatial and temporal id of the best layer in it, if it is a part of a stream.
    pub inner: Option<(u8, u8)>,
    /// Bits per second of late; none while nothing comes.
    pub bitrate: Option<u64>,
    /// Width and height in pixels, if they are known.
    pub size: Option<(u32, u32)>,
}

impl Layer {
    fn value(&self) -> Value {
        let mut value = match &self.rid {
            Some(rid) => json!({ "rid": rid.as_str() }),
            None => json!({ "spatialLayerId": 0 }),
        };
        if let Some((spatial, temporal)) = self.inner {
            (value["spatialLayerId"], value["temporalLayerId"]) = (spatial.into(), temporal.into());
        }
        if let Some(bitrate) = self.bitrate {
            value["bitrate"] = bitrate.into();
        }
        if let Some((width, height)) = self.size {
            (value["width"], value["height"]) = (width.into(), height.into());
        }
        value
    }
}

/// The data of the event: the layers of the picture in this m-line, best first. `is_held` says that this session gets none
/// of them for now, because its connection carries sound alone; the draft has no word for that, so it is one of ours
/// (`held` in each layer), which players that do not know it skip.
#[must_use]
pub fn event_data(media_id: &str, layers: &[Layer], is_held: bool) -> Value {
    let value = |layer: &Layer| {
        let mut value = layer.value();
        if is_held {
            value["held"] = true.into();
        }
        value
    };
    json!({ media_id: layers.iter().map(value).collect::<Vec<_>>() })
}

/// What a player asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Whatever its connection carries.
    Auto,
    /// This layer, whatever its connection carries.
    Layer(Rid),
    /// What its connection carries, but nothing better than this layer.
    UpTo(Rid),
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Request {
    media_id: Option<String>,
    #[serde(alias = "encodingId")]
    rid: Option<String>,
    spatial_layer_id: Option<u8>,
    temporal_layer_id: Option<u8>,
    max_spatial_layer_id: Option<u8>,
    max_temporal_layer_id: Option<u8>,
    max_width: Option<u32>,
    max_height: Option<u32>,
}

impl Choice {
    /// From a POST by the viewer whose picture is in this m-line, while its broadcast has these layers, best first.
    ///
    /// # Errors
    /// 415 for another content type, 400 for what is no such object, 422 for a picture or layer that there is not, or
    /// for limits that cannot be kept.
    pub fn parse(
        content_type: Option<&str>,
        body: &str,
        media_id: &str,
        layers: &[Layer],
    ) -> Result<Self, Problem> {
        check_content_type(content_type, JSON)?;
        let object: Result<serde_json::Map<String, Value>, _> = serde_json::from_str(body);
        let request = object.and_then(|object| serde_json::from_value(object.into()));
        let request: Request = request.map_err(|_| {
            let detail =
                "The body is no JSON object that chooses a layer (mediaId, rid, maxWidth, maxHeight).";
            Problem::new(400, "layer-unreadable", detail)
        })?;
        if request.media_id.as_deref().is_some_and(|asked| asked != media_id) {
            let detail = format!("The picture of this session has the mediaId {media_id}.");
            return Err(Problem::new(422, "media-unknown", detail));
        }
        if let Some(choice) = inner(&request, layers)? {
            return Ok(choice);
        }
        let limits = (request.max_width.unwrap_or(u32::MAX), request.max_height.unwrap_or(u32::MAX));
        match request.rid {
            Some(rid) => named(&rid, layers).map(Self::Layer),
            None if limits == (u32::MAX, u32::MAX) => Ok(Self::Auto),
            None => within(limits, layers),
        }
    }
}

/// What is chosen by the ids of layers within one stream, if anything is. A stream of one layer has the spatial layer 0.
fn inner(request: &Request, layers: &[Layer]) -> Result<Option<Choice>, Problem> {
    let (wanted, most) = (
        (request.spatial_layer_id, request.temporal_layer_id),
        (request.max_spatial_layer_id, request.max_temporal_layer_id),
    );
    let is_divided = layers.iter().any(|layer| layer.inner.is_some());
    let asks_for_nothing = matches!(wanted, (None, None)) && most == (None, None);
    if asks_for_nothing || (!is_divided && matches!(wanted, (Some(0), None)) && most == (None, None)) {
        return Ok(None);
    }
    let found = |fits: &dyn Fn((u8, u8)) -> bool| {
        layers.iter().find(|layer| layer.inner.is_some_and(fits)).and_then(|layer| layer.rid.clone())
    };
    let is_it = |(spatial, temporal): (u8, u8)| {
        wanted.0.is_none_or(|id| id == spatial) && wanted.1.is_none_or(|id| id == temporal)
    };
    let is_within = |(spatial, temporal): (u8, u8)| {
        most.0.is_none_or(|id| spatial <= id) && most.1.is_none_or(|id| temporal <= id)
    };
    let choice = match wanted {
        (None, None) => found(&is_within).map(Choice::UpTo),
        (Some(_), _) | (_, Some(_)) => found(&|ids| is_it(ids) && is_within(ids)).map(Choice::Layer),
    };
    choice.map(Some).ok_or_else(|| {
        let known: Vec<String> = layers
            .iter()
            .filter_map(|layer| layer.inner)
            .map(|(spatial, temporal)| format!("{spatial}/{temporal}"))
            .collect();
        let detail = match known.as_slice() {
            [] => "The picture of this broadcast does not come in spatial and temporal layers.".to_owned(),
            known => format!("There is no such layer; there are (spatial/temporal) {}.", known.join(", ")),
        };
        Problem::new(422, "layer-unknown", detail)
    })
}

fn named(rid: &str, layers: &[Layer]) -> Result<Rid, Problem> {
    let mut rids = layers.iter().filter_map(|layer| layer.rid.as_ref());
    rids.clone().find(|known| known.as_str() == rid).cloned().ok_or_else(|| {
        let known: Vec<&str> = rids.by_ref().map(Rid::as_str).collect();
        let detail = match known.as_slice() {
            [] => "The broadcast comes in one layer: there is nothing to choose.".to_owned(),
            known => format!("There is no such layer; there are {}.", known.join(", ")),
        };
        Problem::new(422, "layer-unknown", detail)
    })
}

/// The best layer within these limits, or the smallest one if they are narrower still.
fn within((width_max, height_max): (u32, u32), layers: &[Layer]) -> Result<Choice, Problem> {
    let sized = || layers.iter().filter_map(|layer| Some((layer.rid.clone()?, layer.size?)));
    let fits = |(_, (width, height)): &(Rid, (u32, u32))| *width <= width_max && *height <= height_max;
    let smallest = || sized().min_by_key(|(_, (width, height))| u64::from(*width) * u64::from(*height));
    let (rid, _) = sized().find(fits).or_else(smallest).ok_or_else(|| {
        let detail = "The sizes of the layers are not known, so that none can be chosen by its size.";
        Problem::new(422, "layer-sizes-unknown", detail)
    })?;
    Ok(Choice::UpTo(rid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rid(name: &str) -> Rid {
        Rid::new(name).expect("a rid")
    }

    fn layer(name: &str, bitrate: Option<u64>, height: u32) -> Layer {
        Layer { rid: Some(rid(name)), inner: None, bitrate, size: Some((height * 16 / 9, height)) }
    }

    fn three() -> [Layer; 3] {
        [layer("h", Some(2_500_000), 720), layer("m", Some(600_000), 360), layer("l", None, 180)]
    }

    fn choose(body: &str) -> Result<Choice, u16> {
        Choice::parse(Some(JSON), body, "1", &three()).map_err(|problem| problem.status)
    }

    #[test]
    fn e11_a_layer_is_pinned_by_name_limited_by_size_or_left_to_the_server() {
        assert_eq!(choose(r#"{"mediaId":"1","rid":"m"}"#), Ok(Choice::Layer(rid("m"))));
        assert_eq!(choose(r#"{"encodingId":"l"}"#), Ok(Choice::Layer(rid("l"))), "its name in older drafts");
        assert_eq!(choose(r#"{"mediaId":"1"}"#), Ok(Choice::Auto));
        assert_eq!(choose("{}"), Ok(Choice::Auto));
        assert_eq!(choose(r#"{"maxHeight":400}"#), Ok(Choice::UpTo(rid("m"))));
        assert_eq!(choose(r#"{"maxWidth":320,"maxHeight":9999}"#), Ok(Choice::UpTo(rid("l"))));
        assert_eq!(choose(r#"{"maxHeight":10}"#), Ok(Choice::UpTo(rid("l"))), "there is nothing smaller");
    }

    #[test]
    fn e11_what_cannot_be_chosen_is_refused() {
        for body in [
            r#"{"rid":"x"}"#,
            r#"{"mediaId":"0"}"#,
            r#"{"spatialLayerId":1}"#,
            r#"{"maxTemporalLayerId":1}"#,
            r#"{"temporalLayerId":0}"#,
        ] {
            assert_eq!(choose(body), Err(422), "{body}");
        }
        for body in ["", "[]", "{", r#"{"rid":7}"#, r#"{"layer":"h"}"#, &"[".repeat(10_000)] {
            assert_eq!(choose(body), Err(400), "{body}");
        }
        let of_text = Choice::parse(Some("text/plain"), "{}", "1", &three());
        assert_eq!(of_text.expect_err("refused").status, 415);
        let single = [Layer { rid: None, inner: None, bitrate: Some(1), size: None }];
        for body in [r#"{"rid":"h"}"#, r#"{"maxHeight":400}"#] {
            let refused = Choice::parse(Some(JSON), body, "1", &single);
            assert_eq!(refused.expect_err("nothing to choose").status, 422, "{body}");
        }
        assert_eq!(Choice::parse(Some(JSON), "{}", "1", &single), Ok(Choice::Auto));
    }

    /// Three spatial layers of three temporal ones, as far as they are told apart.
    fn parts() -> Vec<Layer> {
        let part = |(spatial, temporal)| {
            let rid = Some(rid(&format!("s{spatial}t{temporal}")));
            Layer { rid, inner: Some((spatial, temporal)), bitrate: Some(1000), size: None }
        };
        [(2, 2), (1, 2), (0, 2), (0, 0)].map(part).into()
    }

    #[test]
    fn parts_of_a_stream_are_chosen_by_their_ids_or_names() {
        let choose = |body| Choice::parse(Some(JSON), body, "1", &parts()).map_err(|problem| problem.status);
        let exactly = |name| Ok(Choice::Layer(rid(name)));
        let up_to = |name| Ok(Choice::UpTo(rid(name)));
        assert_eq!(choose(r#"{"spatialLayerId":1,"temporalLayerId":2}"#), exactly("s1t2"));
        assert_eq!(choose(r#"{"spatialLayerId":0}"#), exactly("s0t2"), "the best of its kind");
        assert_eq!(choose(r#"{"temporalLayerId":0}"#), exactly("s0t0"));
        assert_eq!(choose(r#"{"rid":"s0t0"}"#), exactly("s0t0"));
        assert_eq!(choose(r#"{"maxSpatialLayerId":1}"#), up_to("s1t2"));
        assert_eq!(choose(r#"{"maxTemporalLayerId":1}"#), up_to("s0t0"));
        assert_eq!(choose("{}"), Ok(Choice::Auto));
        assert_eq!(choose(r#"{"spatialLayerId":3}"#), Err(422));
        assert_eq!(choose(r#"{"spatialLayerId":2,"maxSpatialLayerId":1}"#), Err(422));
        let told = event_data("1", &parts()[3..], false);
        let expected = json!({ "rid": "s0t0", "spatialLayerId": 0, "temporalLayerId": 0, "bitrate": 1000 });
        assert_eq!(told, json!({ "1": [expected] }));
    }

    #[test]
    fn e12_every_layer_has_a_name_and_what_does_not_come_has_no_bitrate() {
        let data = event_data("1", &three(), false);
        let expected = json!({ "1": [
            { "rid": "h", "bitrate": 2_500_000, "width": 1280, "height": 720 },
            { "rid": "m", "bitrate": 600_000, "width": 640, "height": 360 },
            { "rid": "l", "width": 320, "height": 180 },
        ] });
        assert_eq!(data, expected);
        let single =
            event_data("0", &[Layer { rid: None, inner: None, bitrate: Some(9), size: None }], false);
        assert_eq!(single, json!({ "0": [{ "spatialLayerId": 0, "bitrate": 9 }] }));
        let held = event_data("0", &[Layer { rid: None, inner: None, bitrate: Some(9), size: None }], true);
        assert_eq!(held, json!({ "0": [{ "spatialLayerId": 0, "bitrate": 9, "held": true }] }));
    }
}
