//! Messages in a byte stream: each is preceded by its length, 16 bits, big-endian.
//!
//! The reliable half of the link channel is one ordered byte stream in each direction; what comes out of it in
//! pieces of any size becomes whole messages here. An unreliable message is one datagram and needs no frame.

use super::message::{MESSAGE_BYTES_MAX, Message};

/// Bytes of the length before each message.
const LENGTH_BYTES: usize = 2;

/// Why a byte stream is not a sequence of messages. The stream cannot be used any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The announced length is above [`MESSAGE_BYTES_MAX`].
    #[error("a message of {length} bytes is announced, the longest has {MESSAGE_BYTES_MAX}")]
    TooLong {
        /// The announced length, bytes.
        length: usize,
    },
}

/// Appends `message` with its length to `out`.
pub fn write(message: &Message, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    message.encode(out);
    let length = out.len() - start - LENGTH_BYTES;
    let length = u16::try_from(length).expect("a message is shorter than MESSAGE_BYTES_MAX");
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
}

/// Cuts a byte stream into encoded messages. Holds at most one message that is not complete yet, plus what was
/// pushed after it.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    consumed: usize,
}

impl Reader {
    /// Takes the next bytes of the stream. Call [`Reader::pop`] until it has none before pushing more, so that the
    /// buffer stays short.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.consumed);
        self.consumed = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, still encoded; `None` until more bytes are pushed.
    ///
    /// # Errors
    /// [`FrameError`] if the peer announces more than a message can have; close the channel then.
    pub fn pop(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let rest = &self.buffer[self.consumed..];
        let Some((length, body)) = rest.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes(*length));
        if length > MESSAGE_BYTES_MAX {
            return Err(FrameError::TooLong { length });
        }
        if body.len() < length {
            return Ok(None);
        }
        let start = self.consumed + LENGTH_BYTES;
        self.consumed = start + length;
        Ok(Some(&self.buffer[start..self.consumed]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Ssrc;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn messages_survive_any_cutting_of_the_stream(count in 1usize..20, cuts in prop::collection::vec(1usize..30, 1..200)) {
            let sent: Vec<_> = (0..count).map(|n| Message::KeyframeRequest(Ssrc::new(n as u32))).collect();
            let mut stream = Vec::new();
            sent.iter().for_each(|message| write(message, &mut stream));
            let mut reader = Reader::default();
            let mut received = Vec::new();
            let mut cuts = cuts.into_iter().cycle();
            let mut rest = &stream[..];
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(cuts.next().expect("endless").min(rest.len()));
                reader.push(piece);
                while let Some(bytes) = reader.pop().expect("good frames") {
                    received.push(Message::decode(bytes).expect("good message").expect("known message"));
                }
                rest = later;
            }
            prop_assert_eq!(received, sent);
        }
    }

    #[test]
    fn an_announced_length_above_the_bound_is_refused_at_once() {
        let mut reader = Reader::default();
        reader.push(&[0xff, 0xff, 0x01]);
        assert_eq!(reader.pop(), Err(FrameError::TooLong { length: 0xffff }));
    }
}
