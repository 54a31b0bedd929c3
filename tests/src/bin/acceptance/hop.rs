//! What the way through three processes takes on an idle host.

use std::time::Duration;

use tests::hop;
use tests::source::percentile;

use crate::report::Section;

/// Half a minute at 30 a second.
const PICTURES: usize = 900;
const P99_MAX: Duration = Duration::from_millis(5);

pub async fn run() -> anyhow::Result<Section> {
    let mut delays = hop::measure(PICTURES).await?;
    let text = format!(
        "\n## From the first packet to the last hop\n\n{PICTURES} pictures at 2.5 Mbit/s (keyframes of 40 packets, others of \
         9). From the publisher's hand-over of a picture to its stack, to the reading of the packet by the viewer; so both \
         clients' stacks are in it.\n\n{delays}.\n"
    );
    let mut failures = Vec::new();
    if percentile(&mut delays.first, 99) > P99_MAX || delays.missing > 0 {
        failures.push(format!("hop: {delays}"));
    }
    Ok(Section { text, failures })
}
