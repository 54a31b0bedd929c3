//! How packets get here from the publisher: loss, queues, bitrate, round trip, sound against picture.

use std::time::Duration;

use model::{Bitrate, Kind};

use crate::code::Code;
use crate::encoder;
use crate::finding::Signs;
use crate::history::{History, Sum};
use crate::sign::Sign;

/// Packets from which a share says something.
const PACKETS_MIN: u64 = 100;
/// Share of packets that may be missing at first: repair over one round trip mends about that much unseen.
const MISSED_MAX: f64 = 0.02;
/// No air is so bad that it loses so much for seconds: the line is full.
const MISSED_FULL: f64 = 0.2;
/// Share of packets that may be missing for good.
const GIVEN_UP_MAX: f64 = 0.005;
/// All packets wait so long in a queue on the way: the line is full.
const LATENESS_MAX: Duration = Duration::from_millis(400);
/// Media time in a second of ours from which a queue does not grow any more.
const SPEED_STEADY_MIN: f64 = 0.95;
/// With loss, a shorter queue says the same.
const LATENESS_WITH_LOSS_MAX: Duration = Duration::from_millis(80);
/// Loss in seconds of high bitrate is so many times that in seconds of low bitrate.
const LOSS_RISES_MIN: f64 = 3.0;
/// High bitrate is so many times low bitrate.
const RATES_APART_MIN: f64 = 1.3;
/// Seconds from which rates and losses can be compared.
const STEPS_MIN: usize = 8;
/// What many viewers' lines carry all the time.
const BITRATE_MAX: Bitrate = Bitrate::kbps(15_000);
/// Sound that waits for the next picture, as OBS has it, comes unevenly by some 15 ms.
const JITTER_MAX: Duration = Duration::from_millis(25);
const ROUND_TRIP_MAX: Duration = Duration::from_millis(250);
/// Seconds between the arrival of sound and picture of the same moment.
const SKEW_MAX: f64 = 0.3;

pub(crate) fn check(history: &History, signs: &mut Signs) {
    loss(history, signs);
    let best = history
        .changes_of(Kind::Video, 10)
        .map(|change| (Bitrate::of(change.of(|layer| layer.bytes), change.elapsed), change.now.layer));
    if let Some((bitrate, _)) = best.max()
        && bitrate > BITRATE_MAX
    {
        let sign = Sign::from(format!("The picture takes {bitrate}."));
        signs.insert(Code::BitrateHigh, sign.number("bitrate", bitrate.as_bps() as f64));
    }
    let flowing = history.changes(2).filter(|change| change.is_flowing());
    let jitter = flowing.map(|change| history.jitter(change.now.ssrc, 5)).max();
    if let Some(jitter) = jitter.filter(|jitter| *jitter > JITTER_MAX) {
        let millis = jitter.as_millis();
        let sign = Sign::from(format!("Packets come unevenly by {millis} ms."));
        signs.insert(Code::UplinkJitter, sign.number("jitter", millis as f64));
    }
    let Some((_, stats)) = history.newest() else { return };
    if let Some(round_trip) = stats.round_trip.filter(|round_trip| *round_trip > ROUND_TRIP_MAX) {
        let millis = round_trip.as_millis();
        let sign = Sign::from(format!("To the publisher and back it takes {millis} ms."));
        signs.insert(Code::RoundTripLong, sign.number("round_trip", millis as f64));
    }
    if let Some(skew) = stats.picture_delay.filter(|skew| skew.abs() > SKEW_MAX) {
        let (later, earlier, figure) = if skew > 0.0 {
            ("picture", "sound", "picture_late")
        } else {
            ("sound", "picture", "sound_late")
        };
        let millis = (skew.abs() * 1000.0).round();
        let sign = Sign::from(format!("The {later} arrives {millis} ms later than the {earlier}."));
        signs.insert(Code::AvSkew, sign.number(figure, millis));
    }
}

fn loss(history: &History, signs: &mut Signs) {
    let recent = history.sum(5);
    let is_lossy = recent.packets >= PACKETS_MIN && recent.missed_share() > MISSED_MAX;
    let lateness =
        history.changes(2).filter(|change| change.is_flowing()).map(|it| it.now.facts.lateness).min();
    let lateness = lateness.unwrap_or_default();
    // Without loss, a queue that still grows may as well be an encoder that does not keep up.
    let is_full = lateness > LATENESS_MAX && (is_lossy || encoder::speed_max(history, 5) > SPEED_STEADY_MIN)
        || is_lossy
            && (recent.missed_share() > MISSED_FULL
                || lateness > LATENESS_WITH_LOSS_MAX
                || loss_rises_with_rate(&history.steps()));
    if is_full {
        let (bitrate, late) = (recent.bitrate(), lateness.as_millis());
        let what = format!("At {bitrate} packets of the publisher are {late} ms late");
        let sign = if is_lossy {
            let lost = recent.missed_share() * 100.0;
            Sign::from(format!("{what}, and {lost:.1} % are lost at first.")).number("lost", lost)
        } else {
            Sign::from(format!("{what}."))
        };
        let sign = sign.number("bitrate", bitrate.as_bps() as f64).number("late", late as f64);
        signs.insert(Code::BitrateBeyondLink, sign);
    }
    // Sound is hardly ever sent again, and hides it well.
    let longer = history.sum_of(Kind::Video, 10);
    if longer.packets >= PACKETS_MIN && longer.given_up_share() > GIVEN_UP_MAX {
        let lost = longer.given_up_share() * 100.0;
        let what = format!("{lost:.1} % of the picture's packets never come.");
        signs.insert(Code::UplinkDamage, Sign::from(what).number("lost", lost));
    }
    if is_lossy {
        let lost = recent.missed_share() * 100.0;
        let what = format!("{lost:.1} % of the packets do not come at first.");
        signs.insert(Code::UplinkLoss, Sign::from(what).number("lost", lost));
    }
}

/// Whether the seconds with the higher bitrates have lost far more than those with the lower ones, as where something
/// on the way drops what is above its rate.
fn loss_rises_with_rate(steps: &[Sum]) -> bool {
    let mut steps: Vec<&Sum> = steps.iter().filter(|step| step.packets > 0).collect();
    if steps.len() < STEPS_MIN {
        return false;
    }
    // What was sent, not what came.
    let sent = |step: &Sum| step.bitrate().as_bps() as f64 / (1.0 - step.missed_share().min(0.9));
    steps.sort_by(|left, right| sent(left).total_cmp(&sent(right)));
    let (low, high) = steps.split_at(steps.len() / 2);
    let mean = |part: &[&Sum], value: &dyn Fn(&Sum) -> f64| {
        part.iter().map(|step| value(step)).sum::<f64>() / part.len() as f64
    };
    let rates_apart = mean(high, &sent) / mean(low, &sent).max(1.0);
    let (lost_low, lost_high) = (mean(low, &Sum::missed_share), mean(high, &Sum::missed_share));
    rates_apart > RATES_APART_MIN && lost_high > MISSED_MAX && lost_high > LOSS_RISES_MIN * lost_low
}
