//! Frames: how requests, replies and bytes travel over a stream.
//!
//! A frame is two little-endian `u32` (length of the header, length of the payload), then a JSON header, then a binary
//! payload. The same framing works over a socket and over a relayed pair of pipes.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Most bytes of a header.
pub(super) const MAX_HEADER: usize = 1 << 20;

/// Most bytes of a payload: the largest file or command that travels in one piece.
pub(super) const MAX_PAYLOAD: usize = 64 << 20;

const LENGTHS: usize = 8;

/// One header and its payload, as read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Frame<T> {
    /// The header.
    pub(super) header: T,
    /// The payload; may be empty.
    pub(super) payload: Bytes,
}

/// Puts a frame into one piece of bytes, ready to be written.
///
/// # Errors
/// `InvalidInput` when header or payload is larger than the protocol allows.
pub(super) fn encode(header: &impl Serialize, payload: &[u8]) -> io::Result<Bytes> {
    let header = serde_json::to_vec(header)?;
    let lengths = (u32::try_from(header.len()), u32::try_from(payload.len()));
    let (Ok(header_len), Ok(payload_len)) = lengths else { return Err(too_large()) };
    if header.len() > MAX_HEADER || payload.len() > MAX_PAYLOAD {
        return Err(too_large());
    }
    let mut out = BytesMut::with_capacity(LENGTHS + header.len() + payload.len());
    out.put_u32_le(header_len);
    out.put_u32_le(payload_len);
    out.put_slice(&header);
    out.put_slice(payload);
    Ok(out.freeze())
}

/// Takes one frame off the front of `buffer`, or says `None` when it is not complete yet.
///
/// # Errors
/// `InvalidData` when the lengths are out of bounds or the header is not what was expected: the stream is useless then.
pub(super) fn decode<T: DeserializeOwned>(buffer: &mut BytesMut) -> io::Result<Option<Frame<T>>> {
    if buffer.len() < LENGTHS {
        return Ok(None);
    }
    let length = |at: usize| u32::from_le_bytes([buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]]) as usize;
    let (header_len, payload_len) = (length(0), length(4));
    if header_len > MAX_HEADER || payload_len > MAX_PAYLOAD {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is larger than the protocol allows"));
    }
    let whole = LENGTHS + header_len + payload_len;
    if buffer.len() < whole {
        buffer.reserve(whole - buffer.len());
        return Ok(None);
    }
    let mut frame = buffer.split_to(whole).freeze();
    let payload = frame.split_off(LENGTHS + header_len);
    let header = serde_json::from_slice(&frame[LENGTHS..])?;
    Ok(Some(Frame { header, payload }))
}

/// Reads frames from a stream, however it is cut.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads from `stream`, beginning with bytes that were read before.
    pub(super) fn new(stream: R, already_read: BytesMut) -> Self {
        Self { stream, buffer: already_read }
    }

    /// The next frame; `None` at a clean end. May be dropped and called again without loss.
    ///
    /// # Errors
    /// What the stream says, `InvalidData` as in [`decode`], `UnexpectedEof` for an end within a frame.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<Frame<T>>> {
        loop {
            if let Some(frame) = decode(&mut self.buffer)? {
                return Ok(Some(frame));
            }
            if self.buffer.capacity() - self.buffer.len() < 4096 {
                self.buffer.reserve(16 << 10);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                let clean = self.buffer.is_empty();
                return if clean { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "larger than a frame may be")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let mut bytes = encode(&"first", b"payload").unwrap().to_vec();
        bytes.extend_from_slice(&encode(&"second", b"").unwrap());
        for cut in 0..=bytes.len() {
            let mut buffer = BytesMut::new();
            let mut seen = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                buffer.extend_from_slice(part);
                while let Some(frame) = decode::<String>(&mut buffer).unwrap() {
                    seen.push((frame.header, frame.payload.to_vec()));
                }
            }
            assert_eq!(seen, [("first".into(), b"payload".to_vec()), ("second".into(), Vec::new())], "cut at {cut}");
        }
    }

    #[test]
    fn absurd_lengths_are_refused_before_memory_is_taken() {
        let mut buffer = BytesMut::from(&[0xff; 8][..]);
        assert_eq!(decode::<String>(&mut buffer).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
