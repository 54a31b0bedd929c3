//! Choosing a layer (draft-ietf-wish-whep, "Video Layer Selection extension" and its `layers` event).

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::events::{Entry, OfLayers, PATIENCE, layers_event};
use super::negotiation::LAYERS;
use super::{Pair, Trouble, Verdict, applies_if, ensure};
use crate::event_stream::{Event, Next};
use crate::side::Side;

const RELATION: &str = "urn:ietf:params:whep:ext:core:layer";

pub(crate) async fn a_layer_can_be_chosen(pair: &Pair) -> Verdict {
    let whep = pair.whep()?;
    let session = whep.session().await.map_err(|trouble| match trouble {
        Trouble::Failed(why) | Trouble::Skipped(why) => Trouble::Skipped(why),
    })?;
    let is_offered = session.links().iter().any(|link| link.relation() == RELATION);
    applies_if!(is_offered, "the server offers no layer selection");
    let entry =
        Entry::of(&session).map_err(|_| Trouble::Failed("layers without server-sent events".into()))?;
    ensure!(entry.kinds.iter().any(|kind| kind == "layers"), "layers without a layers event");
    whep.end_sessions().await;
    let heard = layers_event(pair).await?;
    let chosen = choose(whep, &heard.session, &heard.first.data).await;
    heard.publisher.stop().await;
    chosen
}

async fn choose(whep: &Side, session: &crate::side::Session, told: &Value) -> Verdict {
    let link = session.links().into_iter().find(|link| link.relation() == RELATION);
    let link =
        link.ok_or_else(|| Trouble::Failed("one session offers layer selection, another does not".into()))?;
    let url = session.resolve(&link.target)?;
    let (media, layer) = named_layer(told)?;
    let mut choice = json!({ "mediaId": media });
    for name in ["rid", "spatialLayerId", "temporalLayerId"] {
        if !layer[name].is_null() {
            choice[name] = layer[name].clone();
        }
    }
    for (body, what) in
        [(choice.to_string(), "a layer of the layers event"), ("{}".to_owned(), "an empty choice")]
    {
        let request = whep.request(Method::POST, &url).header(CONTENT_TYPE, "application/json");
        let reply = whep.send(request.body(body.clone())).await?;
        ensure!(reply.status == 200, "{what}, {body}, is answered {}", reply.said());
    }
    for body in ["{", "[]", r#"{"mediaId":7}"#, r#"{"spatialLayerId":"high"}"#] {
        let request = whep.request(Method::POST, &url).header(CONTENT_TYPE, "application/json");
        let reply = whep.send(request.body(body)).await?;
        ensure!(reply.is_refusal(), "{body} is answered {}", reply.said());
    }
    Ok("a told layer and an empty choice are taken, nonsense is refused".into())
}

/// The first layer of an event, and the section that it belongs to.
fn named_layer(told: &Value) -> Result<(String, Value), Trouble> {
    let sections = told.as_object().ok_or_else(|| Trouble::Failed(format!("layers event with {told}")))?;
    let found = sections
        .iter()
        .find_map(|(media, layers)| Some((media.clone(), layers.as_array()?.first()?.clone())));
    found.ok_or_else(|| Trouble::Failed(format!("no layer in {told}")))
}

pub(crate) async fn layers_are_described(pair: &Pair) -> Verdict {
    let mut heard = layers_event(pair).await?;
    let seen = listen(&mut heard).await;
    heard.publisher.stop().await;
    seen
}

/// One layer stops, and the others go on.
async fn listen(heard: &mut OfLayers) -> Verdict {
    let [.., stopping] = LAYERS;
    let first = heard.first.clone();
    let mut names = check_event(&first)?;
    let mut bitrate = bitrate_of(&first.data, stopping);
    let deadline = Instant::now() + PATIENCE;
    while bitrate.is_none() {
        match heard.reader.next_within(deadline.saturating_duration_since(Instant::now())).await? {
            Next::Event(event) => {
                names = check_event(&event)?;
                bitrate = bitrate_of(&event.data, stopping);
            }
            Next::End => return Err(Trouble::Failed("the stream of layers ends".into())),
            Next::Nothing => return Ok(format!("{names}; of {stopping:?} no bitrate is told")),
        }
    }
    heard.publisher.leave_out(stopping);
    let deadline = Instant::now() + PATIENCE;
    while let Some(told) = bitrate {
        match heard.reader.next_within(deadline.saturating_duration_since(Instant::now())).await? {
            Next::Event(event) => {
                check_event(&event)?;
                bitrate = bitrate_of(&event.data, stopping);
            }
            Next::End => return Err(Trouble::Failed("the stream of layers ends".into())),
            Next::Nothing => {
                let seconds = PATIENCE.as_secs();
                let why =
                    format!("layer {stopping:?} has stopped, and {seconds} s later has the bitrate {told}");
                return Err(Trouble::Failed(why));
            }
        }
    }
    Ok(format!("{names}; {stopping:?} has no bitrate once it has stopped"))
}

fn check_event(event: &Event) -> Verdict {
    ensure!(event.data_lines == 1, "the layers event has {} lines of data", event.data_lines);
    check_layers(&event.data)
}

/// The bitrate of a layer; none where it is 0, absent, or where there is no such layer.
fn bitrate_of(told: &Value, rid: &str) -> Option<f64> {
    let lists = told.as_object()?.values().filter_map(Value::as_array);
    let mut layers = lists.flatten().filter(|layer| layer["rid"] == rid);
    layers.find_map(|layer| layer["bitrate"].as_f64().filter(|bitrate| *bitrate > 0.0))
}

fn check_layers(told: &Value) -> Verdict {
    let sections = told.as_object().ok_or_else(|| Trouble::Failed(format!("layers event with {told}")))?;
    let mut count = 0;
    for (media, layers) in sections {
        ensure!(media.parse::<usize>().is_ok(), "{media:?} is no number of a section");
        let layers =
            layers.as_array().ok_or_else(|| Trouble::Failed(format!("no list of layers: {layers}")))?;
        for layer in layers {
            let is_named = layer["rid"].is_string()
                || layer["spatialLayerId"].is_u64()
                || layer["temporalLayerId"].is_u64();
            ensure!(is_named, "a layer without rid, spatialLayerId and temporalLayerId: {layer}");
            let bitrate = &layer["bitrate"];
            ensure!(bitrate.is_null() || bitrate.is_number(), "a layer with bitrate {bitrate}");
            count += 1;
        }
    }
    Ok(format!("{count} layers, each with a name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_without_a_name_are_found() {
        let good = json!({ "1": [{ "rid": "hd", "bitrate": 5 }, { "spatialLayerId": 0 }] });
        assert_eq!(check_layers(&good), Ok("2 layers, each with a name".into()));
        for bad in [json!({ "1": [{ "bitrate": 5 }] }), json!({ "video": [] }), json!([]), json!({ "1": {} })]
        {
            assert!(matches!(check_layers(&bad), Err(Trouble::Failed(_))), "{bad}");
        }
    }

    #[test]
    fn a_layer_that_has_stopped_has_no_bitrate() {
        let told =
            json!({ "1": [{ "rid": "0", "bitrate": 7 }, { "rid": "1", "bitrate": 0 }, { "rid": "2" }] });
        assert_eq!(bitrate_of(&told, "0"), Some(7.0));
        for rid in ["1", "2", "3"] {
            assert_eq!(bitrate_of(&told, rid), None, "{rid}");
        }
    }
}
