//! The page for operators and broadcasters: every finding, made from the table that the program uses.

use std::fmt::Write as _;

use crate::code::Entry;
use crate::sign::FIGURES;

const INTRODUCTION: &str = "\
# Advice for broadcasters

Made by `cargo xtask metrics` from the table that the program uses; a test compares both.

Each injection node looks at its publishers once a second: what their bitstreams show of the encoder's settings, what is
lost and late on the way here, what is missing. It says in plain words what could be better and what to do about it.
Nothing is decoded, and the media does not wait for it. Something is told after it has been true for some seconds and
told no more after it has not been for some, so nothing flaps; where one thing follows from another, only the cause is
told.

| Where | Who |
|---|---|
| the publish page, *What could be better* | who publishes from a browser |
| the publish page, *Use OBS instead* | who publishes with an encoder, over WHIP or RTMP, and has typed in its key |
| `GET /whip/{broadcast}/advice` | who may publish the broadcast: a token as for publishing; 404 and `not-published` while nobody does, 307 to the node that it is published to |
| `GET /whip/{broadcast}/{session}/advice` | who made the WHIP session at that URL, with the same token |
| `media-tree broadcast show NAME`, `GET /api/v1/broadcasts/{broadcast}` | operators, over RTMP too ([api.md](api.md)) |
| the event `advice` | your server ([access.md](access.md#your-server-is-told)) |
| `media_tree_publisher_advice{broadcast,code}` | Prometheus; the panel *Advice for publishers*, the alerts on keyframes and B-frames |
| the log of the injection node, `advice for a publisher` | whoever reads it |

    {\"advice\": [{\"code\": \"keyframe-interval\", \"severity\": \"warning\", \"what\": \"Keyframes are 8.3 s apart.\",
      \"figures\": {\"interval\": 8.3}, \"remedy\": \"Set the keyframe interval to 1 or 2 seconds. ...\"}]}

The codes are stable, the words are not. Why somebody could not connect at all is remembered for a minute after the
attempt, by the node that it tried. A publisher that stands by or replaces another has advice of its own under its
session.

The publish page says all this in the language of its reader. Whoever else does finds the figures of a sentence under
`figures` by their names, which are stable, too, and may become more:

FIGURES

Over RTMP, B-frames are refused when they come, and so are HE-AAC, more than two channels, codecs that are not taken and
media that cannot be read. The encoder is told why. OBS does not show it and comes again and again, so that is remembered
for a minute, too. Nothing is lost on TCP: a line that is too thin shows as media that falls behind, or, where
the encoder leaves pictures out instead (OBS does), as pictures that are missing.

What is not advised: High profile in a stream that was offered as Baseline is what OBS does, and every browser plays it.
Browsers send keyframes when they are asked, so theirs may be far apart. A sender's own estimate of its line is not told
to the server over WebRTC; that a line is too thin is seen from queues and losses.

With *problem*, many viewers see or hear nothing, or nothing good; with *warning*, some notice; with *advice*, it could
be better.
";

/// The page.
#[must_use]
pub fn reference() -> String {
    let figure = |(name, meaning): &(&str, &str)| format!("| `{name}` | {meaning} |\n");
    let figures = "| Figure | |\n|---|---|\n".to_owned() + &FIGURES.iter().map(figure).collect::<String>();
    let mut text = INTRODUCTION.replace("FIGURES\n", &figures);
    for entry in &Entry::ALL {
        let Entry { name, meaning, remedy, .. } = entry;
        let (severity, begins) = (entry.severity.as_str(), entry.begins_after.as_secs());
        let ends = entry.ends_after.as_secs();
        let about = wrapped(&format!("*{severity}*, told after {begins} s, gone after {ends} s. {meaning}"));
        let _ = write!(text, "\n## `{name}`\n\n{about}\n\n{}\n", wrapped(remedy));
    }
    text
}

/// The text in lines of the width that all pages have.
fn wrapped(text: &str) -> String {
    const WIDTH: usize = 120;
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().filter(|line| line.is_empty() || line.len() + 1 + word.len() <= WIDTH);
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_up_to_date() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operating/broadcasters.md");
        let committed = std::fs::read_to_string(file).unwrap_or_default();
        assert!(committed == reference(), "docs/operating/broadcasters.md: run `cargo xtask metrics`");
    }
}
