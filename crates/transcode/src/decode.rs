//! Decoders of AAC and MP3, behind one face.

use symphonia_bundle_mp3::MpaDecoder;
use symphonia_codec_aac::AacDecoder;
use symphonia_core::codecs::audio::well_known::{CODEC_ID_AAC, CODEC_ID_MP3};
use symphonia_core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia_core::packet::PacketRef;
use symphonia_core::units::{Duration, Timestamp};

use crate::Sample;
use crate::aac::AacConfig;

/// One decoder.
pub(crate) struct Decoder {
    decoder: Box<dyn AudioDecoder>,
    planes: Vec<Vec<f32>>,
}

impl Decoder {
    /// For AAC-LC. `None` if the decoder does not like the configuration.
    pub(crate) fn aac(config: AacConfig) -> Option<Self> {
        let mut parameters = AudioCodecParameters::new();
        parameters.for_codec(CODEC_ID_AAC).with_extra_data(Box::new(config.plain()));
        let decoder = AacDecoder::try_new(&parameters, &AudioDecoderOptions::default()).ok()?;
        Some(Self { decoder: Box::new(decoder), planes: Vec::new() })
    }

    /// For MP3 of one rate and number of channels. `None` if there is no such decoder.
    pub(crate) fn mp3() -> Option<Self> {
        let mut parameters = AudioCodecParameters::new();
        parameters.for_codec(CODEC_ID_MP3);
        let decoder = MpaDecoder::try_new(&parameters, &AudioDecoderOptions::default()).ok()?;
        Some(Self { decoder: Box::new(decoder), planes: Vec::new() })
    }

    /// Decodes one frame. `None` if it is damaged; the next one may be whole.
    pub(crate) fn decode(&mut self, frame: &[u8]) -> Option<Vec<Sample>> {
        let packet = PacketRef::new(0, Timestamp::ZERO, Duration::ZERO, frame);
        let decoded = self.decoder.decode_ref(&packet).ok()?;
        decoded.copy_to_vecs_planar(&mut self.planes);
        let left = self.planes.first()?;
        let right = self.planes.get(1).unwrap_or(left);
        // A damaged frame may decode to anything.
        let tame = |value: &f32| if value.is_finite() { value.clamp(-1.0, 1.0) } else { 0.0 };
        Some(left.iter().zip(right).map(|(left, right)| [tame(left), tame(right)]).collect())
    }
}
