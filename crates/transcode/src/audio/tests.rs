//! A second of a tone of 1 kHz as ffmpeg codes it, at 44.1 kHz: AAC in ADTS, and MP3.

use proptest::prelude::*;

use super::*;

const AAC: &[u8] = include_bytes!("data/tone.aac");
const MP3: &[u8] = include_bytes!("data/tone.mp3");
const STEREO: &[u8] = &[0x12, 0x10];

/// The raw frames in ADTS, whose headers of seven bytes RTMP does not have.
fn aac_frames() -> Vec<&'static [u8]> {
    let mut rest = AAC;
    let mut frames = Vec::new();
    while let Some((header, _)) = rest.split_first_chunk::<7>() {
        let length =
            usize::from(header[3] & 3) << 11 | usize::from(header[4]) << 3 | usize::from(header[5] >> 5);
        let (frame, after) = rest.split_at(length);
        frames.push(&frame[7..]);
        rest = after;
    }
    frames
}

/// Time of a frame as RTMP says it: in whole milliseconds.
fn said(index: usize, samples: usize) -> MediaTime {
    MediaTime::from_millis((index * samples * 1000 / 44_100) as i64)
}

fn track() -> Audio {
    Audio::new(Bitrate::kbps(128))
}

fn packets(audio: &mut Audio) -> Vec<Packet> {
    std::iter::from_fn(|| audio.poll()).collect()
}

fn from_aac() -> Vec<Packet> {
    let mut audio = track();
    audio.configure(Source::Aac, STEREO).expect("AAC-LC");
    for (index, frame) in aac_frames().into_iter().enumerate() {
        audio.push(Source::Aac, said(index, 1024), Bytes::from_static(frame)).expect("a frame");
    }
    packets(&mut audio)
}

/// How far what is not a tone of 1 kHz lies below what is, in decibels, between a quarter and half of a second.
fn purity(packets: &[Packet]) -> f64 {
    let mut decoder = ropus::Decoder::new(SAMPLE_RATE, Channels::Stereo).expect("a decoder");
    let mut heard: Vec<f64> = Vec::new();
    for packet in packets {
        let mut samples = [0.0; 1920];
        let length =
            decoder.decode_float(&packet.payload, &mut samples, ropus::DecodeMode::Normal).expect("Opus");
        heard.extend(samples.chunks(2).take(length).map(|sample| f64::from(sample[0])));
    }
    let part = &heard[12_000..24_000];
    let turn = |index: usize| index as f64 * std::f64::consts::TAU / 48.0;
    let mean = |of: &dyn Fn(usize) -> f64| (0..part.len()).map(of).sum::<f64>() / part.len() as f64;
    let (sine, cosine) = (mean(&|i| 2.0 * part[i] * turn(i).sin()), mean(&|i| 2.0 * part[i] * turn(i).cos()));
    let rest = mean(&|i| (part[i] - sine * turn(i).sin() - cosine * turn(i).cos()).powi(2));
    10.0 * (mean(&|i| part[i] * part[i]) / rest).log10()
}

#[test]
fn aac_becomes_opus_that_sounds_the_same() {
    let packets = from_aac();
    assert!((48..=52).contains(&packets.len()), "{}", packets.len());
    assert!(packets.windows(2).all(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp) == 960));
    // The encoder is 6.5 ms late, and says so.
    assert_eq!(
        (packets[0].timestamp as i32, packets[0].time.as_micros(), packets[0].marker),
        (-312, -6500, true)
    );
    assert!(packets[1..].iter().all(|packet| !packet.marker));
    let purity = purity(&packets);
    assert!(purity > 30.0, "{purity:.1} dB");
}

#[test]
fn mp3_becomes_opus_that_sounds_the_same() {
    let mut audio = track();
    for (index, (_, frame)) in mp3::frames(MP3).enumerate() {
        audio.push(Source::Mp3, said(index, 1152), Bytes::from_static(frame)).expect("a frame");
    }
    let packets = packets(&mut audio);
    assert!((48..=52).contains(&packets.len()), "{}", packets.len());
    let purity = purity(&packets);
    assert!(purity > 25.0, "{purity:.1} dB");
    let stats = audio.stats();
    assert!(stats.recoded_frames > 30, "{stats:?}");
    assert_eq!(stats, Stats { recoded_frames: stats.recoded_frames, ..Stats::default() });
}

#[test]
fn several_mp3_frames_in_a_message_are_as_good_as_one() {
    let mut audio = track();
    audio.push(Source::Mp3, MediaTime::from_millis(0), Bytes::from_static(MP3)).expect("frames");
    let purity = purity(&packets(&mut audio));
    assert!(purity > 25.0, "{purity:.1} dB");
}

#[test]
fn a_message_with_more_sound_than_an_encoder_sends_is_refused() {
    let mut audio = track();
    let long = Bytes::from([MP3, MP3, MP3].concat());
    assert_eq!(audio.push(Source::Mp3, MediaTime::from_millis(0), long), Err(PacketError::TooMuch));
    assert!(packets(&mut audio).len() <= 105, "it ends after two seconds");
}

#[test]
fn opus_goes_through_as_it_is() {
    let coded = from_aac();
    let mut audio = track();
    let head = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0";
    audio.configure(Source::Opus, head).expect("a head");
    for (index, packet) in coded.iter().enumerate() {
        audio
            .push(Source::Opus, MediaTime::from_millis(index as i64 * 20), packet.payload.clone())
            .expect("Opus");
    }
    let through = packets(&mut audio);
    assert!(through.iter().map(|packet| &packet.payload).eq(coded.iter().map(|packet| &packet.payload)));
    assert!(through.iter().enumerate().all(|(index, packet)| packet.timestamp == index as u32 * 960));
    assert_eq!(audio.stats(), Stats { passed_frames: coded.len() as u64, ..Stats::default() });
}

#[test]
fn sound_without_its_configuration_is_refused() {
    let mut audio = track();
    let time = MediaTime::from_millis(0);
    let frame = || Bytes::from_static(&[1, 2]);
    assert_eq!(audio.push(Source::Aac, time, frame()), Err(PacketError::NotConfigured));
    assert_eq!(audio.push(Source::Opus, time, frame()), Err(PacketError::NotConfigured));
    assert_eq!(audio.configure(Source::Aac, &[0x2b, 0x92, 0x08]), Err(AacError::HighEfficiency.into()));
    assert_eq!(audio.configure(Source::Opus, b"no"), Err(OpusError::Malformed.into()));
}

#[test]
fn a_damaged_frame_is_a_gap_and_many_are_the_end() {
    let mut audio = track();
    let noise = || Bytes::from_static(&[0xff; 40]);
    for index in 0..DAMAGED_MAX - 1 {
        assert_eq!(audio.push(Source::Mp3, said(index as usize, 1152), noise()), Ok(()));
    }
    assert_eq!(audio.push(Source::Mp3, said(100, 1152), noise()), Err(PacketError::Damaged));
    assert_eq!(audio.stats(), Stats { damaged_frames: DAMAGED_MAX.into(), ..Stats::default() });
    let mut audio = track();
    audio.configure(Source::Aac, STEREO).expect("AAC-LC");
    for (index, frame) in aac_frames().into_iter().enumerate() {
        let frame = if index == 20 { Bytes::new() } else { Bytes::from_static(frame) };
        audio.push(Source::Aac, said(index, 1024), frame).expect("a frame");
    }
    let packets = packets(&mut audio);
    assert!(packets.windows(2).all(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp) == 960));
}

#[test]
fn another_codec_goes_on_with_the_clock() {
    let mut audio = track();
    audio.configure(Source::Aac, STEREO).expect("AAC-LC");
    let frames = aac_frames();
    for (index, frame) in frames.iter().take(20).enumerate() {
        audio.push(Source::Aac, said(index, 1024), Bytes::from_static(frame)).expect("a frame");
    }
    for (index, (_, frame)) in mp3::frames(MP3).take(10).enumerate() {
        let time = said(20, 1024).plus_micros(said(index, 1152).as_micros());
        audio.push(Source::Mp3, time, Bytes::from_static(frame)).expect("a frame");
    }
    let packets = packets(&mut audio);
    let steps = packets.windows(2).map(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp));
    assert!(steps.clone().all(|step| step == 960), "{:?}", steps.collect::<Vec<_>>());
    assert!(packets.iter().all(|packet| packet.payload.len() <= PACKET_BYTES_MAX));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_damage_panics(
        damage in prop::collection::vec((0usize..44, 0usize..200, any::<u8>()), 1..40),
        is_aac in any::<bool>(),
    ) {
        let frames: Vec<&[u8]> = if is_aac { aac_frames() } else { mp3::frames(MP3).map(|(_, frame)| frame).collect() };
        let mut frames: Vec<Vec<u8>> = frames.into_iter().take(8).map(<[u8]>::to_vec).collect();
        for (frame, place, byte) in damage {
            let count = frames.len();
            let frame = &mut frames[frame % count];
            let length = frame.len();
            frame[place % length] = byte;
        }
        let (source, samples) = if is_aac { (Source::Aac, 1024) } else { (Source::Mp3, 1152) };
        let mut audio = track();
        audio.configure(Source::Aac, STEREO).expect("AAC-LC");
        for (index, frame) in frames.into_iter().enumerate() {
            let _ = audio.push(source, said(index, samples), frame.into());
        }
        prop_assert!(packets(&mut audio).len() < 30);
    }
}
