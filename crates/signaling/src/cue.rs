//! Cues: captions and other timed data of a broadcast, in JSON, as publishers send them and viewers are told them.
//!
//! A publisher sends one of
//!
//! ```json
//! {"kind": "caption", "text": "Good evening", "language": "en", "duration": 4.0}
//! {"kind": "metadata", "data": {"slide": 7}}
//! ```
//!
//! `language` (RFC 5646) and `duration` (seconds) may be missing; a caption with an empty text ends the one before. Members
//! that are not known are left out. Viewers get the same with `time`, when it was captured, in milliseconds since 1970 by
//! the clock that the picture's capture times are in.

use model::NtpTime;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest cue, in bytes, as it comes and as it is passed on.
pub const BYTES_MAX: usize = 4096;
/// Longest time for which a caption is shown, in seconds.
const DURATION_MAX: f64 = 60.0;
/// Longest language tag, in bytes: RFC 5646, section 4.4.1, has no use for a longer one.
const LANGUAGE_BYTES_MAX: usize = 35;

/// Why something is no cue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CueError {
    /// Too long.
    #[error("a cue has at most {BYTES_MAX} bytes")]
    TooLarge,
    /// Not the JSON that it should be.
    #[error(
        "a cue is JSON: {{\"kind\":\"caption\",\"text\":\"…\",\"language\":\"en\",\"duration\":4.0}} or \
         {{\"kind\":\"metadata\",\"data\":…}}; a duration has at most 60 seconds"
    )]
    Unreadable,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Document {
    Caption {
        text: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        language: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        duration: Option<f64>,
    },
    Metadata {
        data: Value,
    },
}

impl Document {
    fn is_valid(&self) -> bool {
        match self {
            Self::Caption { language, duration, .. } => {
                language.as_deref().is_none_or(is_language)
                    && duration.is_none_or(|duration| duration > 0.0 && duration <= DURATION_MAX)
            }
            Self::Metadata { .. } => true,
        }
    }
}

fn is_language(tag: &str) -> bool {
    !tag.is_empty()
        && tag.len() <= LANGUAGE_BYTES_MAX
        && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// A cue in the one form in which it crosses the tree: an object in one line, `kind` first.
///
/// # Errors
/// [`CueError`] if it is none.
pub fn parse(bytes: &[u8]) -> Result<String, CueError> {
    if bytes.len() > BYTES_MAX {
        return Err(CueError::TooLarge);
    }
    let document: Document = serde_json::from_slice(bytes).map_err(|_| CueError::Unreadable)?;
    if !document.is_valid() {
        return Err(CueError::Unreadable);
    }
    let text = serde_json::to_string(&document).map_err(|_| CueError::Unreadable)?;
    // Numbers may be written longer than they came.
    if text.len() > BYTES_MAX { Err(CueError::TooLarge) } else { Ok(text) }
}

/// The caption of an encoder that has no JSON.
#[must_use]
pub fn caption(text: &str, language: Option<&str>) -> String {
    let language = language.filter(|tag| is_language(tag));
    serde_json::json!({ "kind": "caption", "text": text, "language": language }).to_string()
}

/// What viewers are told of a cue that was captured then: one line of JSON. `None` if it is not of the form that
/// [`parse`] gives, whoever passed it on.
#[must_use]
pub fn event_data(captured: NtpTime, cue: &str) -> Option<String> {
    parse(cue.as_bytes()).ok()?;
    let members = cue.strip_prefix('{').filter(|members| !members.contains(['\n', '\r']))?;
    Some(format!("{{\"time\":{},{members}", captured.to_unix().as_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn captions_and_metadata_are_taken_and_what_is_not_known_is_left_out() {
        let taken = |text: &str| parse(text.as_bytes());
        let whole = r#"{"kind":"caption","text":"Ja, \"so\"\n","language":"de-CH","duration":4.5}"#;
        assert_eq!(taken(whole).as_deref(), Ok(whole));
        assert_eq!(
            taken(r#" {"text": "", "x": [1], "kind": "caption", "language": null} "#).as_deref(),
            Ok(r#"{"kind":"caption","text":""}"#)
        );
        assert_eq!(
            taken("{\"kind\":\"metadata\",\n\"data\":{\"slide\":7}}").as_deref(),
            Ok(r#"{"kind":"metadata","data":{"slide":7}}"#)
        );
    }

    #[test]
    fn what_is_no_cue_is_refused() {
        let deep = format!("{{\"kind\":\"metadata\",\"data\":{}", "[".repeat(3000));
        for bad in [
            "",
            "hello",
            "[]",
            "{}",
            r#"{"kind":"caption"}"#,
            r#"{"kind":"caption","text":7}"#,
            r#"{"kind":"caption","text":"a","duration":0}"#,
            r#"{"kind":"caption","text":"a","duration":61}"#,
            r#"{"kind":"caption","text":"a","duration":1e999}"#,
            r#"{"kind":"caption","text":"a","language":"d e"}"#,
            r#"{"kind":"picture","data":1}"#,
            r#"{"kind":"metadata"}"#,
            &deep,
        ] {
            assert_eq!(parse(bad.as_bytes()), Err(CueError::Unreadable), "{bad}");
        }
        assert_eq!(parse(b"\xff"), Err(CueError::Unreadable));
        let long = format!(r#"{{"kind":"caption","text":"{}"}}"#, "a".repeat(BYTES_MAX));
        assert_eq!(parse(long.as_bytes()), Err(CueError::TooLarge));
    }

    #[test]
    fn viewers_are_told_when_it_was_captured() {
        let captured =
            NtpTime::from_unix(Duration::from_millis(1_700_000_000_123) + Duration::from_nanos(500));
        assert_eq!(
            event_data(captured, r#"{"kind":"caption","text":"a"}"#).as_deref(),
            Some(r#"{"time":1700000000123,"kind":"caption","text":"a"}"#)
        );
        for bad in ["{\"kind\":\"caption\"}\n\nevent: reconnect", "{\"kind\":\"caption\",\n\"text\":\"a\"}"] {
            assert_eq!(event_data(captured, bad), None, "{bad}");
        }
    }

    #[test]
    fn a_caption_of_an_encoder_is_a_cue() {
        assert_eq!(
            parse(caption("a\"b", Some("en")).as_bytes()).as_deref(),
            Ok(r#"{"kind":"caption","text":"a\"b","language":"en"}"#)
        );
        assert_eq!(
            parse(caption("a", Some("?")).as_bytes()).as_deref(),
            Ok(r#"{"kind":"caption","text":"a"}"#)
        );
    }

    proptest! {
        #[test]
        fn nothing_panics_and_what_is_taken_is_one_line_that_is_taken_again(bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            ".{0,40}".prop_map(|text| caption(&text, None).into_bytes()),
            ".{0,40}".prop_map(|text| serde_json::json!({ "kind": "metadata", "data": [text, 1e300, -1] }).to_string().into_bytes()),
        ]) {
            let _ = parse(&bytes).map_err(|error| error.to_string());
            if let Ok(taken) = parse(&bytes) {
                prop_assert!(taken.len() <= BYTES_MAX && !taken.contains(['\n', '\r']));
                prop_assert_eq!(parse(taken.as_bytes()), Ok(taken.clone()));
                let told = event_data(NtpTime::from_unix(Duration::from_secs(1)), &taken).expect("told");
                let told: Value = serde_json::from_str(&told).expect("JSON");
                prop_assert_eq!(told["time"].as_u64(), Some(1000));
            }
        }
    }
}
