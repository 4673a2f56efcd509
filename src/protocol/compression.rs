//! The five codecs of a record batch, and a bound on what may come out of them.
//!
//! Snappy is written in the framing of Java's library and read in that one and bare, since
//! librdkafka sends bare blocks. LZ4 frames have independent blocks: Kafka's Java client reads no
//! others.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

/// Decompressed bytes that are never refused for their ratio alone: a batch of zeroes is legal.
const RATIO_FREE_BYTES: usize = 16 * 1024 * 1024;

/// Largest ratio of decompressed to compressed bytes beyond [`RATIO_FREE_BYTES`]. Text reaches 20;
/// what lies above is either padding or an attack on the reader's time.
const RATIO_MAX: usize = 1000;

/// First bytes of Java's snappy framing, then two versions of 4 bytes each.
const SNAPPY_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const SNAPPY_HEAD_BYTES: usize = 16;

/// Uncompressed bytes of one snappy block that we write: the default of Java's library.
const SNAPPY_BLOCK_BYTES: usize = 32 * 1024;

/// Snappy's longest copy makes 64 bytes of 3: a block that claims more lies.
const SNAPPY_RATIO_MAX: usize = 22;

/// Level at which zstd compresses: its own default.
const ZSTD_LEVEL: i32 = 3;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    #[default]
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

/// Bytes that do not decompress, or decompress to more than is allowed.
#[derive(Debug, thiserror::Error)]
pub enum CompressionError {
    #[error("not valid {codec}: {source}")]
    Malformed { codec: Codec, source: io::Error },
    #[error("{codec} of {compressed_bytes} bytes holds more than {bytes_max} bytes")]
    TooLarge { codec: Codec, compressed_bytes: usize, bytes_max: usize },
}

/// A text that names no codec.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no codec: none, gzip, snappy, lz4 and zstd are")]
pub struct CodecNameError(String);

impl Codec {
    /// All of them, by number.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// The codec of the lowest three bits of a batch's attributes.
    pub fn from_number(number: u8) -> Option<Codec> {
        Codec::ALL.get(usize::from(number)).copied()
    }

    /// Kafka's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Codec {
    type Err = CodecNameError;

    fn from_str(text: &str) -> Result<Codec, CodecNameError> {
        let found = Codec::ALL.into_iter().find(|codec| codec.name() == text);
        found.ok_or_else(|| CodecNameError(text.to_owned()))
    }
}

/// Compresses `bytes`.
pub fn compress(codec: Codec, bytes: &[u8]) -> Vec<u8> {
    const TO_MEMORY: &str = "writing to memory does not fail";
    match codec {
        Codec::None => bytes.to_vec(),
        Codec::Gzip => {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).expect(TO_MEMORY);
            encoder.finish().expect(TO_MEMORY)
        }
        Codec::Snappy => compress_snappy(bytes),
        Codec::Lz4 => {
            let mut encoder =
                lz4_flex::frame::FrameEncoder::with_frame_info(lz4_frame(), Vec::new());
            encoder.write_all(bytes).expect(TO_MEMORY);
            encoder.finish().expect(TO_MEMORY)
        }
        Codec::Zstd => zstd::bulk::compress(bytes, ZSTD_LEVEL).expect(TO_MEMORY),
    }
}

/// The frames that every client reads.
pub(super) fn lz4_frame() -> lz4_flex::frame::FrameInfo {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameInfo};
    FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB)
}

fn compress_snappy(bytes: &[u8]) -> Vec<u8> {
    const TO_MEMORY: &str = "writing to memory does not fail";
    let framed = Vec::with_capacity(SNAPPY_HEAD_BYTES + bytes.len() / 2);
    let mut writer = SnappyWriter::new(framed).expect(TO_MEMORY);
    writer.write_all(bytes).expect(TO_MEMORY);
    writer.finish().expect(TO_MEMORY)
}

/// Writes Java's framing, a block at a time.
pub(super) struct SnappyWriter<W> {
    sink: W,
    block: Vec<u8>,
}

impl<W: Write> SnappyWriter<W> {
    pub fn new(mut sink: W) -> io::Result<SnappyWriter<W>> {
        sink.write_all(&SNAPPY_MAGIC)?;
        sink.write_all(&1i32.to_be_bytes())?; // version
        sink.write_all(&1i32.to_be_bytes())?; // oldest version that reads it
        Ok(SnappyWriter { sink, block: Vec::new() })
    }

    /// Writes what is left; returns the sink.
    pub fn finish(mut self) -> io::Result<W> {
        if !self.block.is_empty() {
            let block = std::mem::take(&mut self.block);
            self.write_block(&block)?;
        }
        Ok(self.sink)
    }

    fn write_block(&mut self, block: &[u8]) -> io::Result<()> {
        let compressed = snap::raw::Encoder::new().compress_vec(block);
        let compressed = compressed.expect("a block is far below snappy's 4 GiB");
        self.sink.write_all(&(compressed.len() as u32).to_be_bytes())?;
        self.sink.write_all(&compressed)
    }
}

impl<W: Write> Write for SnappyWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(SNAPPY_BLOCK_BYTES - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        if self.block.len() == SNAPPY_BLOCK_BYTES {
            let mut block = std::mem::take(&mut self.block);
            self.write_block(&block)?;
            block.clear();
            self.block = block;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // a block is written when it is full
    }
}

/// The most that `compressed_bytes` may decompress to, whatever its reader could hold.
fn decompressed_bytes_max(compressed_bytes: usize, bytes_max: usize) -> usize {
    bytes_max.min(compressed_bytes.saturating_mul(RATIO_MAX).max(RATIO_FREE_BYTES))
}

/// Decompresses the whole of `bytes`.
///
/// # Errors [`CompressionError::Malformed`]; [`CompressionError::TooLarge`]: more than `bytes_max`
/// would come out, or the ratio is beyond belief. Memory stays within `bytes_max` either way.
pub fn decompress(
    codec: Codec,
    bytes: &[u8],
    bytes_max: usize,
) -> Result<Vec<u8>, CompressionError> {
    let mut decompressed = Vec::new();
    let mut reader = Decompressor::new(codec, bytes, bytes_max)?;
    let read = reader.read_to_end(&mut decompressed);
    read.map_err(|source| reader.error(source))?;
    Ok(decompressed)
}

/// Decompresses piece by piece, so that nothing large is held.
pub struct Decompressor<'a> {
    codec: Codec,
    compressed_bytes: usize,
    bytes_max: usize,
    taken_bytes: usize,
    source: Box<dyn Read + 'a>,
}

impl<'a> Decompressor<'a> {
    /// Over `bytes`, for at most `bytes_max` and at most what the ratio allows.
    ///
    /// # Errors
    /// [`CompressionError::Malformed`]: the codec's state could not be made.
    pub fn new(
        codec: Codec,
        bytes: &'a [u8],
        bytes_max: usize,
    ) -> Result<Decompressor<'a>, CompressionError> {
        let compressed_bytes = bytes.len();
        let bytes_max = decompressed_bytes_max(compressed_bytes, bytes_max);
        let source = open(codec, bytes)?;
        Ok(Decompressor { codec, compressed_bytes, bytes_max, taken_bytes: 0, source })
    }

    /// How many bytes came out so far.
    pub fn taken_bytes(&self) -> usize {
        self.taken_bytes
    }

    /// What an error of a read means.
    pub fn error(&self, source: io::Error) -> CompressionError {
        let Decompressor { codec, compressed_bytes, bytes_max, .. } = *self;
        if self.taken_bytes > bytes_max {
            return CompressionError::TooLarge { codec, compressed_bytes, bytes_max };
        }
        CompressionError::Malformed { codec, source }
    }
}

impl Read for Decompressor<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.taken_bytes += count;
        if self.taken_bytes > self.bytes_max {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        Ok(count)
    }
}

fn open<'a>(codec: Codec, bytes: &'a [u8]) -> Result<Box<dyn Read + 'a>, CompressionError> {
    Ok(match codec {
        Codec::None => Box::new(bytes),
        Codec::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(bytes)),
        Codec::Snappy => Box::new(SnappyReader::new(bytes)),
        Codec::Lz4 => {
            check_lz4_end(bytes).map_err(|source| CompressionError::Malformed { codec, source })?;
            Box::new(lz4_flex::frame::FrameDecoder::new(bytes))
        }
        Codec::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(bytes);
            Box::new(decoder.map_err(|source| CompressionError::Malformed { codec, source })?)
        }
    })
}

/// A frame ends with an empty block, and a checksum if its flags say so. The decoder takes the end
/// of the bytes for that as well; Java's does not.
fn check_lz4_end(bytes: &[u8]) -> io::Result<()> {
    const FLAGS_AT: usize = 4;
    const HAS_CHECKSUM: u8 = 0x04;
    const CHECKSUM_BYTES: usize = 4;
    let cut_off = || io::Error::new(io::ErrorKind::UnexpectedEof, "the frame is cut off");
    let flags = *bytes.get(FLAGS_AT).ok_or_else(cut_off)?;
    let behind_bytes = if flags & HAS_CHECKSUM == 0 { 0 } else { CHECKSUM_BYTES };
    let end = bytes.len().checked_sub(behind_bytes).and_then(|end| bytes[..end].last_chunk());
    if end == Some(&[0; 4]) { Ok(()) } else { Err(cut_off()) }
}

/// Reads Java's framing block by block, or the one bare block that is everything.
struct SnappyReader<'a> {
    rest: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    taken_bytes: usize,
}

impl<'a> SnappyReader<'a> {
    fn new(bytes: &'a [u8]) -> SnappyReader<'a> {
        let framed = bytes.len() >= SNAPPY_HEAD_BYTES && bytes.starts_with(&SNAPPY_MAGIC);
        let rest = if framed { &bytes[SNAPPY_HEAD_BYTES..] } else { bytes };
        SnappyReader { rest, framed, block: Vec::new(), taken_bytes: 0 }
    }

    fn next_block(&mut self) -> io::Result<()> {
        let compressed = if self.framed {
            let bad = || io::Error::new(io::ErrorKind::UnexpectedEof, "a block is cut off");
            let (length, rest) = self.rest.split_first_chunk().ok_or_else(bad)?;
            let length = u32::from_be_bytes(*length) as usize;
            let (block, rest) = rest.split_at_checked(length).ok_or_else(bad)?;
            self.rest = rest;
            block
        } else {
            std::mem::take(&mut self.rest)
        };
        let claimed = snap::raw::decompress_len(compressed).map_err(io::Error::other)?;
        if claimed > compressed.len().saturating_mul(SNAPPY_RATIO_MAX) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a block lies of its length"));
        }
        self.block.clear();
        self.block.resize(claimed, 0);
        self.taken_bytes = 0;
        let mut decoder = snap::raw::Decoder::new();
        decoder.decompress(compressed, &mut self.block).map_err(io::Error::other)?;
        Ok(())
    }
}

impl Read for SnappyReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken_bytes == self.block.len() && !self.rest.is_empty() {
            self.next_block()?;
        }
        let ready = &self.block[self.taken_bytes..];
        let count = ready.len().min(buffer.len());
        buffer[..count].copy_from_slice(&ready[..count]);
        self.taken_bytes += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Vec<u8> {
        (0..50_000u32).flat_map(|line| format!("line {line}\n").into_bytes()).collect()
    }

    /// Goal: what goes in comes out. Method: empty, short and long for each codec.
    #[test]
    fn every_codec_gives_back_what_it_got() {
        for codec in Codec::ALL {
            for bytes in [Vec::new(), b"x".to_vec(), text()] {
                let compressed = compress(codec, &bytes);
                let back = decompress(codec, &compressed, bytes.len()).expect("it is valid");
                assert_eq!(back, bytes, "{codec}");
            }
            assert_eq!(codec.name().parse(), Ok(codec));
        }
        assert!("lz5".parse::<Codec>().is_err());
    }

    /// Goal: librdkafka's bare snappy is read. Method: a block without framing.
    #[test]
    fn bare_snappy_is_read_as_well() {
        let bare = snap::raw::Encoder::new().compress_vec(&text()).expect("it is short");
        assert_eq!(decompress(Codec::Snappy, &bare, 1 << 20).expect("it is valid"), text());
    }

    /// Goal: no bomb goes off, no damage passes for data. Method: a bound one byte short; each
    /// codec's bytes cut and bent; a snappy block that claims 4 GiB.
    #[test]
    fn bombs_and_damage_are_refused() {
        for codec in Codec::ALL {
            let compressed = compress(codec, &text());
            let short = decompress(codec, &compressed, text().len() - 1);
            assert!(matches!(short, Err(CompressionError::TooLarge { .. })), "{codec}");
            if codec != Codec::None {
                let cut = &compressed[..compressed.len() - 3];
                let malformed = decompress(codec, cut, 1 << 20);
                assert!(matches!(malformed, Err(CompressionError::Malformed { .. })), "{codec}");
                assert!(decompress(codec, b"not compressed at all", 1 << 20).is_err(), "{codec}");
            }
        }
        let lie = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
        assert!(decompress(Codec::Snappy, &lie, usize::MAX).is_err());
    }
}
