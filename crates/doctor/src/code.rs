//! Every finding there is: its name, how grave it is, how long it takes, what it means and what helps.

use std::time::Duration;

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It could be better.
    Advice,
    /// Some viewers notice.
    Warning,
    /// Many viewers see or hear nothing, or nothing good.
    Problem,
}

impl Severity {
    /// The word of API and docs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Advice => "advice",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// What can be found. The names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// No datagram of the publisher arrives.
    UdpBlocked,
    /// They do, and no connection comes of it.
    HandshakeStuck,
    /// Neither sound nor picture.
    NoMedia,
    /// Sound alone where there should be both.
    NoPicture,
    /// A picture alone where there should be both.
    NoAudio,
    /// A picture alone.
    NoAudioTrack,
    /// Sound in which nothing is heard.
    Silence,
    /// Pictures in another order than they are shown.
    BFrames,
    /// Keyframes come seldom.
    KeyframeInterval,
    /// Keyframes do not come.
    NoKeyframe,
    /// Keyframes come without what a decoder needs first.
    ParameterSets,
    /// An H.264 profile that browsers do not decode.
    H264Profile,
    /// An H.264 level that many phones do not decode.
    H264Level,
    /// An H.264 level that hardly anything decodes.
    H264LevelTooHigh,
    /// Pictures in two fields.
    Interlaced,
    /// A codec that not every browser decodes.
    CodecSupport,
    /// Media plays faster than time passes.
    AheadOfTime,
    /// Media plays slower than time passes.
    FallsBehind,
    /// Pictures are missing that the stream says it has.
    FrameRateUnsteady,
    /// More pictures than screens show.
    FrameRateHigh,
    /// More bits than most viewers can take.
    BitrateHigh,
    /// More bits than the publisher's line takes.
    BitrateBeyondLink,
    /// Packets are lost for good.
    UplinkDamage,
    /// Packets are lost and repaired.
    UplinkLoss,
    /// Packets come unevenly.
    UplinkJitter,
    /// The publisher is far away.
    RoundTripLong,
    /// Sound and picture arrive apart.
    AvSkew,
    /// The encoder has a known fault that a newer version has not.
    EncoderOld,
    /// AAC of another kind than AAC-LC; the shell finds it, as the following.
    AacProfile,
    /// More than two channels of sound.
    AudioChannels,
    /// A codec that is not taken.
    CodecRefused,
    /// Media that cannot be read.
    MediaUnreadable,
}

/// All about one code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub code: Code,
    /// Its stable name.
    pub name: &'static str,
    /// How grave it is.
    pub severity: Severity,
    /// It is told after it was true for so long.
    pub begins_after: Duration,
    /// It is told no more after it was not true for so long.
    pub ends_after: Duration,
    /// What it means to viewers.
    pub meaning: &'static str,
    /// What helps.
    pub remedy: &'static str,
}

impl Code {
    /// Its stable name, in kebab case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.entry().name
    }

    /// All about it.
    #[must_use]
    pub const fn entry(self) -> &'static Entry {
        &Entry::ALL[self as usize]
    }
}

const fn entry(
    (code, name, severity): (Code, &'static str, Severity),
    (begins, ends): (u64, u64),
    meaning: &'static str,
    remedy: &'static str,
) -> Entry {
    let (begins_after, ends_after) = (Duration::from_secs(begins), Duration::from_secs(ends));
    Entry { code, name, severity, begins_after, ends_after, meaning, remedy }
}

/// Of what an encoder is sent away for: told at once, and for the minute that the shell remembers it.
const SENT_AWAY: (u64, u64) = (0, 60);

use Code as C;
use Severity::{Advice, Problem, Warning};

impl Entry {
    /// Every one, in the order of [`Code`].
    pub const ALL: [Self; 32] = [
        entry(
            (C::UdpBlocked, "udp-blocked", Problem),
            (4, 2),
            "The request to publish came, but nothing of the publisher comes over UDP: a firewall on the way \
             stops it.",
            "Let UDP out of the network that you publish from, to the server's media port (52000 unless its \
             operator says otherwise), or publish over RTMPS. For the operator: open that port, and set \
             media.public_ip behind NAT.",
        ),
        entry(
            (C::HandshakeStuck, "handshake-stuck", Problem),
            (6, 2),
            "UDP comes from the publisher, but no connection comes of it: answers do not reach it, or it has a \
             certificate that this server does not take.",
            "Switch VPN and firewall off for a try. An ffmpeg with GnuTLS wants an ECDSA certificate given by \
             -cert_file and -key_file.",
        ),
        entry(
            (C::NoMedia, "no-media", Problem),
            (5, 2),
            "The publisher is connected and sends neither sound nor picture: viewers wait.",
            "Look whether the encoder still runs: in OBS, stop and start streaming, and see Help, Log Files if it \
             happens again.",
        ),
        entry(
            (C::NoPicture, "no-picture", Problem),
            (4, 2),
            "Sound comes and no picture, though there is to be one.",
            "Look at the encoder's source: camera unplugged, window closed, encoder failed. In OBS, choose \
             another encoder under Settings, Output.",
        ),
        entry(
            (C::NoAudio, "no-audio", Warning),
            (8, 3),
            "The picture comes and no sound, though there is to be some.",
            "Look at the source of the sound: in OBS, Settings, Audio, and the track chosen under Settings, \
             Output.",
        ),
        entry(
            (C::NoAudioTrack, "no-audio-track", Advice),
            (8, 3),
            "There is a picture and no sound at all.",
            "If that is not meant so: in OBS, choose an audio track under Settings, Output; in ffmpeg, add an \
             audio input and leave -an out.",
        ),
        entry(
            (C::Silence, "silence", Advice),
            (30, 3),
            "Sound comes, and there is nothing in it.",
            "If that is not meant so: unmute the microphone or the mixer; in OBS, the meters of the Audio Mixer \
             must move.",
        ),
        entry(
            (C::BFrames, "b-frames", Problem),
            (3, 10),
            "The picture has B-frames: browsers show them jerking over WebRTC, or not at all.",
            "Set B-frames to 0. x264 in OBS: Tune zerolatency, or bframes=0 in x264 Options; NVENC, AMF, \
             QuickSync: Max B-frames 0. ffmpeg: -bf 0 or -tune zerolatency.",
        ),
        entry(
            (C::KeyframeInterval, "keyframe-interval", Warning),
            (3, 10),
            "Keyframes are far apart: newcomers get much old media at once, and a damaged picture stays damaged \
             for long.",
            "Set the keyframe interval to 1 or 2 seconds. OBS: Settings, Output, Keyframe Interval (0 means 250 \
             pictures). ffmpeg: -g with the pictures of one or two seconds.",
        ),
        entry(
            (C::NoKeyframe, "no-keyframe", Problem),
            (3, 3),
            "No keyframe comes any more: newcomers see no picture.",
            "Set the keyframe interval to 1 or 2 seconds. OBS: Settings, Output, Keyframe Interval. ffmpeg: -g \
             with the pictures of one or two seconds, and no intra-refresh.",
        ),
        entry(
            (C::ParameterSets, "parameter-sets", Problem),
            (3, 10),
            "Keyframes come without parameter sets: newcomers see no picture.",
            "Have the encoder repeat them with each keyframe. ffmpeg: -bsf:v dump_extra, or without -flags \
             +global_header; x264: repeat-headers=1; GStreamer: h264parse config-interval=-1.",
        ),
        entry(
            (C::H264Profile, "h264-profile", Problem),
            (2, 10),
            "The H.264 profile is one that browsers do not decode: more than 8 bits, or more colour than 4:2:0.",
            "OBS: Settings, Advanced, Color Format NV12, and Settings, Output, Profile high, main or baseline. \
             ffmpeg: -pix_fmt yuv420p -profile:v high.",
        ),
        entry(
            (C::H264Level, "h264-level", Advice),
            (2, 10),
            "The H.264 level is above 4.2: many phones and older computers do not decode it.",
            "Send at most 1920x1080 at 60 pictures per second; leave the level to the encoder, and with x264 \
             choose a faster preset, which refers to fewer pictures. ffmpeg: -level 4.2.",
        ),
        entry(
            (C::H264LevelTooHigh, "h264-level-too-high", Problem),
            (2, 10),
            "The H.264 level is above 5.2, the highest that browsers promise to decode.",
            "Send a smaller picture or fewer per second, and leave the level to the encoder. ffmpeg: -level 4.2 \
             or no -level at all.",
        ),
        entry(
            (C::Interlaced, "interlaced", Warning),
            (2, 10),
            "The picture is interlaced: browsers show combs, or nothing.",
            "Send progressive pictures. ffmpeg: -vf bwdif and no -flags +ildct+ilme; OBS: deinterlacing of the \
             source, by its context menu.",
        ),
        entry(
            (C::CodecSupport, "codec-support", Warning),
            (2, 10),
            "Not every browser decodes this codec over WebRTC.",
            "H.264 plays everywhere. OBS: Settings, Output, Video Encoder x264 or one that names H.264. ffmpeg: \
             -c:v libx264.",
        ),
        entry(
            (C::AheadOfTime, "ahead-of-time", Problem),
            (8, 5),
            "Media comes faster than it plays: viewers fall behind or skip.",
            "ffmpeg: put -re before -i, so that a file is read as fast as it plays.",
        ),
        entry(
            (C::FallsBehind, "falls-behind", Problem),
            (5, 10),
            "Media comes slower than it plays: the picture stops again and again.",
            "The encoder is too slow, or, over RTMP, the line too thin for the bitrate. A faster preset (x264: \
             veryfast, ultrafast) or an encoder in hardware helps the first, a lower bitrate the second.",
        ),
        entry(
            (C::FrameRateUnsteady, "frame-rate-unsteady", Warning),
            (5, 10),
            "Pictures are missing that the stream says it has: motion jerks.",
            "The computer does not keep up, or, over RTMP, the line. OBS: View, Stats shows which. Frames missed \
             or skipped: choose a faster preset, a smaller output or an encoder in hardware. Frames dropped: a \
             lower bitrate.",
        ),
        entry(
            (C::FrameRateHigh, "frame-rate-high", Advice),
            (5, 10),
            "More than 60 pictures per second: most screens do not show them, and all viewers pay for them.",
            "OBS: Settings, Video, Common FPS Values 30 or 60. ffmpeg: -r 60.",
        ),
        entry(
            (C::BitrateHigh, "bitrate-high", Advice),
            (5, 15),
            "The bitrate is above what many viewers' lines carry all the time.",
            "4 to 8 Mbit/s are plenty for 1920x1080. OBS: Settings, Output, Rate Control CBR and a Bitrate. \
             ffmpeg: -b:v 6M -maxrate 6M -bufsize 6M.",
        ),
        entry(
            (C::BitrateBeyondLink, "bitrate-beyond-link", Problem),
            (5, 15),
            "The publisher sends more than its line carries: packets queue and get lost on the way here.",
            "Lower the bitrate to two thirds of what the line uploads. OBS: Settings, Output, Bitrate. ffmpeg: \
             -b:v with -maxrate and -bufsize. Stop other uploads.",
        ),
        entry(
            (C::UplinkDamage, "uplink-damage", Problem),
            (5, 15),
            "Packets of the picture are lost for good: all viewers see damage.",
            "Use a wire instead of Wi-Fi or a mobile network, a nearer server, or a lower bitrate.",
        ),
        entry(
            (C::UplinkLoss, "uplink-loss", Warning),
            (5, 15),
            "Packets of the publisher do not come at first; they are asked for again, which costs time.",
            "Use a wire instead of Wi-Fi, or a nearer server. If it gets better with a lower bitrate, stay there.",
        ),
        entry(
            (C::UplinkJitter, "uplink-jitter", Advice),
            (10, 20),
            "Packets of the publisher come unevenly: players wait longer before they show them.",
            "Use a wire instead of Wi-Fi, and stop other uploads.",
        ),
        entry(
            (C::RoundTripLong, "round-trip-long", Advice),
            (10, 20),
            "The way between publisher and server is long: what is lost comes late, and so does everything else.",
            "Publish to a nearer server, without a VPN.",
        ),
        entry(
            (C::AvSkew, "av-skew", Advice),
            (10, 20),
            "Sound and picture of the same moment arrive far apart: players hold the earlier one back, so \
             everything is late.",
            "Have the encoder look ahead less. x264: Tune zerolatency; NVENC: Look-ahead off, Preset or Tuning \
             for low latency. If the sound is late, lower its sync offset under Advanced Audio Properties.",
        ),
        entry(
            (C::EncoderOld, "encoder-old", Warning),
            (2, 2),
            "OBS below 30.2 does not send all again that was lost on the way here: viewers see damage that a newer \
             one repairs.",
            "Update OBS to 30.2 or later; 32.1 and later can send several sizes, too. Until then a wire instead of \
             Wi-Fi helps, or RTMP, over which nothing is lost.",
        ),
        entry(
            (C::AacProfile, "aac-profile", Problem),
            SENT_AWAY,
            "The sound is HE-AAC, or AAC of another kind that is not taken: the encoder is sent away.",
            "Set the encoder to AAC-LC (mostly called just AAC; 1024 samples a frame) at 128 kbit/s or more. OBS: \
             Settings, Output, Audio Encoder FFmpeg AAC, and an Audio Bitrate of 128 or more under Audio. ffmpeg: \
             -c:a aac -profile:a aac_low -b:a 128k.",
        ),
        entry(
            (C::AudioChannels, "audio-channels", Problem),
            SENT_AWAY,
            "The sound has more than two channels: the encoder is sent away.",
            "Set the sound to stereo or mono. OBS: Settings, Audio, Channels Stereo. ffmpeg: -ac 2.",
        ),
        entry(
            (C::CodecRefused, "codec-refused", Problem),
            SENT_AWAY,
            "Picture or sound is in a codec that is not taken: the encoder is sent away.",
            "H.264 with AAC plays everywhere. OBS: Settings, Output, Video Encoder x264 or one that names H.264, \
             Audio Encoder FFmpeg AAC. ffmpeg: -c:v libx264 -c:a aac.",
        ),
        entry(
            (C::MediaUnreadable, "media-unreadable", Problem),
            SENT_AWAY,
            "Picture or sound cannot be read, since something in it is damaged, missing or too large: the encoder \
             is sent away.",
            "Stop the encoder and start it again; if that does not help, choose another. OBS: Settings, Output, \
             Video Encoder x264, Audio Encoder FFmpeg AAC. ffmpeg: -c:v libx264 -c:a aac instead of copy; Opus \
             with at most 256 kbit/s. For the operator: the log of the node says what it is.",
        ),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_order_of_the_codes_and_names_that_last() {
        for (index, entry) in Entry::ALL.iter().enumerate() {
            assert_eq!(entry.code as usize, index, "{}", entry.name);
            assert!(
                entry.name.bytes().all(|byte| byte.is_ascii_lowercase() || b"-0123456789".contains(&byte))
            );
            assert!(entry.meaning.ends_with('.') && entry.remedy.ends_with('.'), "{}", entry.name);
        }
    }
}
