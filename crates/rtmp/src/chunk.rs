//! Chunk streams (RTMP specification 1.0, section 5.3): messages out of a peer's chunks, and ours into chunks.
//!
//! What messages mean is left to the connection, which also tells the reader what "Set Chunk Size" and "Abort Message"
//! said.

use std::collections::BTreeMap;

use bytes::{Buf as _, Bytes, BytesMut};

/// Bytes of a chunk's content until "Set Chunk Size" says otherwise.
pub const CHUNK_BYTES_DEFAULT: usize = 128;
/// Chunk streams that one peer may use. Encoders use about five.
pub const CHUNK_STREAMS_MAX: usize = 64;
/// Largest message with video, in bytes: a keyframe of 8 MiB would take a second at 67 Mbit/s.
pub const VIDEO_BYTES_MAX: usize = 8 << 20;
/// Largest message with audio, in bytes: ten seconds of uncompressed sound.
pub const AUDIO_BYTES_MAX: usize = 64 << 10;
/// Largest message of any other kind, in bytes.
pub const OTHER_BYTES_MAX: usize = 64 << 10;
/// What all unfinished messages together may have, in bytes, once media is expected.
pub const UNFINISHED_BYTES_MAX: usize = 12 << 20;
/// The same before: nobody knows who the peer is yet.
pub const UNFINISHED_BYTES_BEFORE_MEDIA: usize = 2 * OTHER_BYTES_MAX;

/// Message types (section 5.4, 6 and 7.1) that this crate knows.
pub mod message_type {
    /// Set Chunk Size.
    pub const SET_CHUNK_SIZE: u8 = 1;
    /// Abort Message.
    pub const ABORT: u8 = 2;
    /// Acknowledgement.
    pub const ACKNOWLEDGEMENT: u8 = 3;
    /// User Control.
    pub const USER_CONTROL: u8 = 4;
    /// Window Acknowledgement Size.
    pub const WINDOW_SIZE: u8 = 5;
    /// Set Peer Bandwidth.
    pub const PEER_BANDWIDTH: u8 = 6;
    /// Audio, as an FLV tag's body.
    pub const AUDIO: u8 = 8;
    /// Video, as an FLV tag's body.
    pub const VIDEO: u8 = 9;
    /// Data in the form of AMF3.
    pub const DATA_AMF3: u8 = 15;
    /// A command in the form of AMF3.
    pub const COMMAND_AMF3: u8 = 17;
    /// Data in AMF0.
    pub const DATA: u8 = 18;
    /// A command in AMF0.
    pub const COMMAND: u8 = 20;
    /// Several messages in one.
    pub const AGGREGATE: u8 = 22;
}

/// The time field that says that the time follows in four bytes.
const EXTENDED: u32 = 0x00ff_ffff;

/// Why chunks cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// The first chunk of a stream has a header that refers to an earlier one.
    #[error(
        "chunk stream {chunk_stream} begins with a header of type {format}, which repeats an earlier one"
    )]
    NothingToRepeat {
        /// The chunk stream.
        chunk_stream: u32,
        /// Type of the header, 2 or 3.
        format: u8,
    },
    /// A message begins within another one of the same chunk stream.
    #[error("a message begins on chunk stream {chunk_stream} before the one under way has ended")]
    Interrupted {
        /// The chunk stream.
        chunk_stream: u32,
    },
    /// A message is larger than its kind may be.
    #[error("a message of type {message_type} has {length} bytes, more than {allowed}")]
    TooLong {
        /// Its type.
        message_type: u8,
        /// Its length in bytes, as announced.
        length: usize,
        /// What it may have.
        allowed: usize,
    },
    /// More chunk streams than an encoder needs.
    #[error("more than {CHUNK_STREAMS_MAX} chunk streams")]
    TooManyStreams,
    /// Too much is unfinished at once.
    #[error("unfinished messages have more than {allowed} bytes")]
    TooMuchUnfinished {
        /// What they may have.
        allowed: usize,
    },
    /// A chunk size of zero, or with the bit set that must be zero.
    #[error("a chunk size of {size} bytes")]
    ChunkSize {
        /// As announced.
        size: u32,
    },
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Milliseconds, modulo 2^32.
    pub timestamp: u32,
    /// See [`message_type`].
    pub message_type: u8,
    /// The message stream; 0 is the connection itself.
    pub stream_id: u32,
    /// Its content.
    pub payload: Bytes,
}

/// One chunk stream.
#[derive(Debug, Default)]
struct Stream {
    timestamp: u32,
    /// The time field of the latest header that had one: a time or a difference.
    time_field: u32,
    /// Whether that one was extended: then chunks without a header repeat it.
    is_extended: bool,
    length: usize,
    message_type: u8,
    stream_id: u32,
    payload: BytesMut,
    is_unfinished: bool,
}

/// A chunk under way.
#[derive(Debug)]
struct Chunk {
    chunk_stream: u32,
    /// Bytes of its content that have not come yet.
    left: usize,
}

/// Puts messages together.
#[derive(Debug)]
pub struct Reader {
    chunk_bytes: usize,
    streams: BTreeMap<u32, Stream>,
    chunk: Option<Chunk>,
    unfinished_bytes: usize,
    unfinished_bytes_max: usize,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            chunk_bytes: CHUNK_BYTES_DEFAULT,
            streams: BTreeMap::new(),
            chunk: None,
            unfinished_bytes: 0,
            unfinished_bytes_max: UNFINISHED_BYTES_BEFORE_MEDIA,
        }
    }
}

impl Reader {
    /// Bytes of messages that are not whole yet.
    #[must_use]
    pub const fn unfinished_bytes(&self) -> usize {
        self.unfinished_bytes
    }

    /// The peer's next chunks have so many bytes.
    ///
    /// # Errors
    /// [`ChunkError::ChunkSize`] if that is no size.
    pub fn set_chunk_bytes(&mut self, size: u32) -> Result<(), ChunkError> {
        if size == 0 || size >> 31 != 0 {
            return Err(ChunkError::ChunkSize { size });
        }
        self.chunk_bytes = size as usize;
        Ok(())
    }

    /// From now on large messages may come.
    pub fn expect_media(&mut self) {
        self.unfinished_bytes_max = UNFINISHED_BYTES_MAX;
    }

    /// The message under way on this chunk stream will not be finished.
    pub fn abort(&mut self, chunk_stream: u32) {
        if let Some(stream) = self.streams.get_mut(&chunk_stream)
            && std::mem::take(&mut stream.is_unfinished)
        {
            self.unfinished_bytes -= stream.payload.len();
            stream.payload.clear();
        }
    }

    /// The next whole message. Takes what it has understood from the front of `unread`; what it leaves there is the
    /// beginning of a header.
    ///
    /// # Errors
    /// [`ChunkError`] names the rule that the peer broke. The reader is of no use after that.
    pub fn poll(&mut self, unread: &mut BytesMut) -> Result<Option<Message>, ChunkError> {
        loop {
            if self.chunk.is_none() && !self.begin(unread)? {
                return Ok(None);
            }
            let Some(chunk) = &mut self.chunk else { return Ok(None) };
            let Some(stream) = self.streams.get_mut(&chunk.chunk_stream) else { return Ok(None) };
            let taken = chunk.left.min(unread.len());
            let allowed = self.unfinished_bytes_max;
            if self.unfinished_bytes + taken > allowed {
                return Err(ChunkError::TooMuchUnfinished { allowed });
            }
            stream.payload.extend_from_slice(&unread[..taken]);
            unread.advance(taken);
            self.unfinished_bytes += taken;
            chunk.left -= taken;
            if chunk.left > 0 {
                return Ok(None);
            }
            self.chunk = None;
            if stream.payload.len() == stream.length {
                self.unfinished_bytes -= stream.length;
                stream.is_unfinished = false;
                return Ok(Some(Message {
                    timestamp: stream.timestamp,
                    message_type: stream.message_type,
                    stream_id: stream.stream_id,
                    payload: std::mem::take(&mut stream.payload).freeze(),
                }));
            }
        }
    }

    /// Reads a chunk's header; false if it is not there yet.
    fn begin(&mut self, unread: &mut BytesMut) -> Result<bool, ChunkError> {
        let Some((format, chunk_stream, basic)) = basic_header(unread) else { return Ok(false) };
        let is_new = !self.streams.contains_key(&chunk_stream);
        // Some encoders begin the stream of control messages with a header of type 1.
        if is_new && format >= 2 {
            return Err(ChunkError::NothingToRepeat { chunk_stream, format });
        }
        if is_new && self.streams.len() >= CHUNK_STREAMS_MAX {
            return Err(ChunkError::TooManyStreams);
        }
        let known = self.streams.get(&chunk_stream);
        let is_unfinished = known.is_some_and(|stream| stream.is_unfinished);
        if is_unfinished && format != 3 {
            return Err(ChunkError::Interrupted { chunk_stream });
        }
        let repeated =
            known.filter(|stream| format == 3 && stream.is_extended).map(|stream| stream.time_field);
        let Some((header, length)) = message_header(&unread[basic..], format, repeated) else {
            return Ok(false);
        };
        unread.advance(basic + length);
        let stream = self.streams.entry(chunk_stream).or_default();
        if !is_unfinished {
            stream.start(format, &header)?;
        }
        let left = (stream.length - stream.payload.len()).min(self.chunk_bytes);
        self.chunk = Some(Chunk { chunk_stream, left });
        Ok(true)
    }
}

impl Stream {
    /// A message begins.
    fn start(&mut self, format: u8, header: &MessageHeader) -> Result<(), ChunkError> {
        if let Some((time_field, is_extended)) = header.time {
            (self.time_field, self.is_extended) = (time_field, is_extended);
        }
        // A header of type 3 after one of type 0 repeats the time as a difference (section 5.3.1.2.4).
        let before = if format == 0 { 0 } else { self.timestamp };
        self.timestamp = before.wrapping_add(self.time_field);
        if let Some((length, message_type)) = header.content {
            (self.length, self.message_type) = (length, message_type);
        }
        if let Some(stream_id) = header.stream_id {
            self.stream_id = stream_id;
        }
        let allowed = match self.message_type {
            message_type::VIDEO => VIDEO_BYTES_MAX,
            message_type::AUDIO => AUDIO_BYTES_MAX,
            _ => OTHER_BYTES_MAX,
        };
        if self.length > allowed {
            let (message_type, length) = (self.message_type, self.length);
            return Err(ChunkError::TooLong { message_type, length, allowed });
        }
        self.is_unfinished = true;
        Ok(())
    }
}

/// Type of the header, chunk stream and length in bytes of a basic header (section 5.3.1.1).
fn basic_header(bytes: &[u8]) -> Option<(u8, u32, usize)> {
    let &first = bytes.first()?;
    let (chunk_stream, length) = match first & 0x3f {
        0 => (64 + u32::from(*bytes.get(1)?), 2),
        1 => (64 + u32::from(*bytes.get(1)?) + (u32::from(*bytes.get(2)?) << 8), 3),
        small => (u32::from(small), 1),
    };
    Some((first >> 6, chunk_stream, length))
}

/// What a message header has of its own.
struct MessageHeader {
    /// Time or difference, and whether it was extended.
    time: Option<(u32, bool)>,
    /// Length and type of the message.
    content: Option<(usize, u8)>,
    stream_id: Option<u32>,
}

/// A message header and its length in bytes (section 5.3.1.2). `repeated` is the extended time that a header of type 3
/// repeats: not all encoders do, so it is taken for one only if it is the same.
fn message_header(bytes: &[u8], format: u8, repeated: Option<u32>) -> Option<(MessageHeader, usize)> {
    if format == 3 {
        let header = MessageHeader { time: None, content: None, stream_id: None };
        let Some(repeated) = repeated else { return Some((header, 0)) };
        let is_repeated = *bytes.first_chunk::<4>()? == repeated.to_be_bytes();
        return Some((header, if is_repeated { 4 } else { 0 }));
    }
    let length = [11, 7, 3][usize::from(format)];
    let fixed = bytes.get(..length)?;
    let field = u32::from_be_bytes([0, fixed[0], fixed[1], fixed[2]]);
    let extended = (field == EXTENDED).then(|| bytes.get(length..)?.first_chunk::<4>().copied());
    let time = match extended {
        Some(extended) => (u32::from_be_bytes(extended?), true),
        None => (field, false),
    };
    let content = fixed.get(3..7).map(|content| {
        let length = u32::from_be_bytes([0, content[0], content[1], content[2]]);
        (length as usize, content[3])
    });
    let stream_id = fixed.get(7..).and_then(<[u8]>::first_chunk).map(|bytes| u32::from_le_bytes(*bytes));
    let header = MessageHeader { time: Some(time), content, stream_id };
    Some((header, length + if time.1 { 4 } else { 0 }))
}

/// Adds a message to `out` in chunks of at most `chunk_bytes` bytes, all with whole headers: ours are few.
///
/// # Panics
/// If `chunk_stream` is not 2 to 63 or `chunk_bytes` is 0.
pub fn write(out: &mut Vec<u8>, chunk_bytes: usize, chunk_stream: u8, message: &Message) {
    assert!((2..64).contains(&chunk_stream), "chunk stream {chunk_stream} has another form of header");
    let extended = (message.timestamp >= EXTENDED).then_some(message.timestamp.to_be_bytes());
    out.push(chunk_stream);
    out.extend_from_slice(&message.timestamp.min(EXTENDED).to_be_bytes()[1..]);
    out.extend_from_slice(&(message.payload.len() as u32).to_be_bytes()[1..]);
    out.push(message.message_type);
    out.extend_from_slice(&message.stream_id.to_le_bytes());
    out.extend(extended.iter().flatten());
    for (index, content) in message.payload.chunks(chunk_bytes).enumerate() {
        if index > 0 {
            out.push(0xc0 | chunk_stream);
            out.extend(extended.iter().flatten());
        }
        out.extend_from_slice(content);
    }
}

#[cfg(test)]
mod tests;
