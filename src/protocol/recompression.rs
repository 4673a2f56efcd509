//! Batches in another codec than their producer's, which is what `compression.type` asks of a
//! broker.
//!
//! Only the records' bytes go from one codec to the other: piece by piece, so that no more is held
//! than the codecs themselves need and what the topic allows a batch to be.

use super::batch::{BatchView, HEADER_BYTES, patch_payload};
use super::compression::{Codec, Decompressor, SnappyWriter, lz4_frame};
use super::produce::ProduceError;
use std::io::{self, Read as _, Write};

/// Level of lz4 at which Kafka takes the fast method; any other means the thorough one.
const LZ4_LEVEL_FAST: i32 = 9;

/// Least level of lz4's thorough method: Kafka's level 1 is the same.
const LZ4_LEVEL_THOROUGH_MIN: u32 = 2;

/// Bytes that go from one codec to the other at a time.
const PIECE_BYTES: usize = 16 * 1024;

/// Largest distance that zstd looks back, as a power of two, bytes. Its highest levels would look
/// back 128 MiB and take 700 MiB of memory for that; so they take less than 50.
const ZSTD_WINDOW_LOG_MAX: u32 = 21;

/// A codec and how hard it tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    pub codec: Codec,
    /// In the codec's own scale: gzip 1 to 9 or -1, lz4 1 to 17, zstd -131072 to 22; the others
    /// have none.
    pub level: i32,
}

/// The batch `bytes` with its records in `encoding`; all else is as it was, but for length and
/// checksum.
///
/// The batch passed `validate_produce`, which found `uncompressed_bytes` of records. Takes as long
/// as both codecs do.
///
/// # Errors
/// [`ProduceError::TooLargeRecompressed`]: it would be larger than `batch_bytes_max`; no more than
/// that was built.
///
/// # Panics
/// There is no batch.
pub fn recompress(
    bytes: &[u8],
    encoding: Encoding,
    uncompressed_bytes: usize,
    batch_bytes_max: usize,
) -> Result<Vec<u8>, ProduceError> {
    let batch = BatchView::first(bytes).expect("a validated batch is whole");
    let codec = batch.codec().expect("a validated batch has a known codec");
    let too_large =
        |_| ProduceError::TooLargeRecompressed { codec: encoding.codec, batch_bytes_max };
    let mut source = Decompressor::new(codec, batch.payload(), uncompressed_bytes)?;
    let sink = Sink { bytes: bytes[..HEADER_BYTES].to_vec(), bytes_max: batch_bytes_max };
    let mut target = Compressor::new(encoding, sink, uncompressed_bytes).map_err(too_large)?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match source.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => target.write_all(&piece[..count]).map_err(too_large)?,
            Err(error) => return Err(source.error(error).into()),
        }
    }
    let mut rebuilt = target.finish().map_err(too_large)?.bytes;
    patch_payload(&mut rebuilt, encoding.codec);
    Ok(rebuilt)
}

/// Where compressed bytes go: memory with a bound.
struct Sink {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Write for Sink {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + piece.len() > self.bytes_max {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compresses piece by piece. Fails as its sink does: else only where memory is short.
enum Compressor {
    None(Sink),
    Gzip(flate2::write::GzEncoder<Sink>),
    Snappy(SnappyWriter<Sink>),
    Lz4Fast(Box<lz4_flex::frame::FrameEncoder<Sink>>),
    Lz4(lz4::Encoder<Sink>),
    Zstd(zstd::stream::write::Encoder<'static, Sink>),
}

impl Compressor {
    /// For `bytes_count` bytes to come.
    fn new(encoding: Encoding, sink: Sink, bytes_count: usize) -> io::Result<Compressor> {
        let level = encoding.level;
        Ok(match encoding.codec {
            Codec::None => Compressor::None(sink),
            Codec::Gzip => {
                let level = match u32::try_from(level) {
                    Ok(level) => flate2::Compression::new(level.min(9)),
                    Err(_) => flate2::Compression::default(),
                };
                Compressor::Gzip(flate2::write::GzEncoder::new(sink, level))
            }
            Codec::Snappy => Compressor::Snappy(SnappyWriter::new(sink)?),
            Codec::Lz4 if level == LZ4_LEVEL_FAST => {
                let encoder = lz4_flex::frame::FrameEncoder::with_frame_info(lz4_frame(), sink);
                Compressor::Lz4Fast(Box::new(encoder))
            }
            Codec::Lz4 => {
                let level = u32::try_from(level).unwrap_or(0).max(LZ4_LEVEL_THOROUGH_MIN);
                let mut builder = lz4::EncoderBuilder::new();
                builder
                    .level(level)
                    .block_mode(lz4::BlockMode::Independent)
                    .block_size(lz4::BlockSize::Max64KB)
                    .block_checksum(lz4::liblz4::BlockChecksum::NoBlockChecksum)
                    .checksum(lz4::ContentChecksum::NoChecksum);
                Compressor::Lz4(builder.build(sink)?)
            }
            Codec::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(sink, level)?;
                encoder.window_log(ZSTD_WINDOW_LOG_MAX)?;
                encoder.set_pledged_src_size(Some(bytes_count as u64))?;
                Compressor::Zstd(encoder)
            }
        })
    }

    fn finish(self) -> io::Result<Sink> {
        match self {
            Compressor::None(sink) => Ok(sink),
            Compressor::Gzip(encoder) => encoder.finish(),
            Compressor::Snappy(writer) => writer.finish(),
            Compressor::Lz4Fast(encoder) => encoder.finish().map_err(io::Error::other),
            Compressor::Lz4(encoder) => {
                let (sink, finished) = encoder.finish();
                finished.map(|()| sink)
            }
            Compressor::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl Write for Compressor {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        match self {
            Compressor::None(sink) => sink.write(piece),
            Compressor::Gzip(encoder) => encoder.write(piece),
            Compressor::Snappy(writer) => writer.write(piece),
            Compressor::Lz4Fast(encoder) => encoder.write(piece),
            Compressor::Lz4(encoder) => encoder.write(piece),
            Compressor::Zstd(encoder) => encoder.write(piece),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // only `finish` makes a whole of it
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::batch::{BatchBuilder, BatchProducer};
    use crate::protocol::produce::{ProduceLimits, validate_produce};
    use crate::protocol::record::NewRecord;

    const NOW_MS: i64 = 1_000_000_000;
    const BYTES_MAX: usize = 1 << 20;

    /// Every level that a setting takes, of each codec the ends and the default.
    const ENCODINGS: [Encoding; 16] = [
        Encoding { codec: Codec::None, level: 0 },
        Encoding { codec: Codec::Gzip, level: -1 },
        Encoding { codec: Codec::Gzip, level: 1 },
        Encoding { codec: Codec::Gzip, level: 9 },
        Encoding { codec: Codec::Snappy, level: 0 },
        Encoding { codec: Codec::Lz4, level: 1 },
        Encoding { codec: Codec::Lz4, level: 8 },
        Encoding { codec: Codec::Lz4, level: LZ4_LEVEL_FAST },
        Encoding { codec: Codec::Lz4, level: 10 },
        Encoding { codec: Codec::Lz4, level: 17 },
        Encoding { codec: Codec::Zstd, level: -131_072 },
        Encoding { codec: Codec::Zstd, level: -1 },
        Encoding { codec: Codec::Zstd, level: 0 },
        Encoding { codec: Codec::Zstd, level: 3 },
        Encoding { codec: Codec::Zstd, level: 19 },
        Encoding { codec: Codec::Zstd, level: 22 },
    ];

    /// A transaction's batch with keys, nulls and headers; its last value has `value_bytes`.
    fn batch_of(codec: Codec, value_bytes: usize) -> Vec<u8> {
        let producer = BatchProducer { id: 71, epoch: 3, base_sequence: 12, transactional: true };
        let mut builder = BatchBuilder::new(codec).with_producer(producer);
        let words: Vec<u8> = (0..value_bytes).map(|at| (at * at / 1000 % 251) as u8).collect();
        let headers = [("trace", Some(&b"on"[..])), ("none", None)];
        builder.append(&NewRecord { timestamp: NOW_MS, key: Some(b"a"), ..Default::default() });
        builder.append(&NewRecord {
            timestamp: NOW_MS - 50,
            value: Some(b""),
            headers: &headers,
            ..Default::default()
        });
        builder.append(&NewRecord {
            timestamp: NOW_MS + 7,
            value: Some(&words),
            ..Default::default()
        });
        builder.finish()
    }

    fn rebuilt(
        batch: &[u8],
        encoding: Encoding,
        bytes_max: usize,
    ) -> Result<Vec<u8>, ProduceError> {
        let limits = ProduceLimits::defaults(NOW_MS);
        let produced = validate_produce(batch, &limits).expect("it is honest");
        recompress(batch, encoding, produced.uncompressed_bytes, bytes_max)
    }

    /// Goal: only codec, length and checksum change. Method: from every codec to every encoding;
    /// the header but for those, and the records' bytes.
    #[test]
    fn a_batch_in_another_codec_says_the_same() {
        for source in Codec::ALL {
            for value_bytes in [0, 100, 300_000] {
                let batch = batch_of(source, value_bytes);
                let before = BatchView::first(&batch).expect("it is whole");
                let records = before.decompressed(BYTES_MAX).expect("it is valid");
                for encoding in ENCODINGS {
                    let bytes = rebuilt(&batch, encoding, BYTES_MAX).expect("it fits");
                    let after = BatchView::first(&bytes).expect("it is whole");
                    assert_eq!(after.bytes().len(), bytes.len());
                    after.check_crc().expect("it was made anew");
                    assert_eq!(after.codec(), Some(encoding.codec));
                    assert_eq!(after.decompressed(BYTES_MAX).expect("it is valid"), records);
                    let mut same = bytes.clone();
                    patch_payload(&mut same, source);
                    // Base offset; then all behind the checksum up to the records.
                    assert_eq!(same[..8], batch[..8]);
                    assert_eq!(same[21..HEADER_BYTES], batch[21..HEADER_BYTES], "{encoding:?}");
                    validate_produce(&bytes, &ProduceLimits::defaults(NOW_MS)).expect("honest");
                }
            }
        }
    }

    /// Goal: a level that tries harder gives fewer bytes. Method: the ends of each scale.
    #[test]
    fn levels_make_a_difference() {
        let text: String = (0..20_000).map(|line| format!("{} fox {line}\n", line % 17)).collect();
        let mut builder = BatchBuilder::new(Codec::None);
        let value = Some(text.as_bytes());
        builder.append(&NewRecord { timestamp: NOW_MS, value, ..Default::default() });
        let batch = builder.finish();
        let bytes = |codec, level| {
            let bytes = rebuilt(&batch, Encoding { codec, level }, BYTES_MAX);
            bytes.expect("it fits").len()
        };
        assert!(bytes(Codec::Gzip, 9) < bytes(Codec::Gzip, 1));
        assert!(bytes(Codec::Lz4, 17) < bytes(Codec::Lz4, LZ4_LEVEL_FAST));
        assert!(bytes(Codec::Zstd, 22) < bytes(Codec::Zstd, -100));
    }

    /// Goal: nothing larger than the topic allows is built, however much comes out of a bomb.
    /// Method: 15 MiB of zeroes in less than 60 KB; bounds at and one below what a batch needs.
    #[test]
    fn a_batch_that_grows_beyond_its_topics_bound_is_refused() {
        let zeroes = vec![0; 3 << 20];
        let mut builder = BatchBuilder::new(Codec::Zstd);
        for _ in 0..5 {
            builder.append(&NewRecord {
                timestamp: NOW_MS,
                value: Some(&zeroes),
                ..Default::default()
            });
        }
        let bomb = builder.finish();
        assert!(bomb.len() < 60_000, "{}", bomb.len());
        let refused = rebuilt(&bomb, Encoding { codec: Codec::None, level: 0 }, BYTES_MAX);
        let refused = refused.expect_err("it is 15 MiB");
        assert_eq!(refused.code(), crate::protocol::error::ErrorCode::MessageTooLarge);
        let small = batch_of(Codec::Gzip, 10_000);
        for encoding in ENCODINGS {
            let need_bytes = rebuilt(&small, encoding, BYTES_MAX).expect("it fits").len();
            assert_eq!(rebuilt(&small, encoding, need_bytes).expect("it fits").len(), need_bytes);
            let refused = rebuilt(&small, encoding, need_bytes - 1);
            assert!(matches!(refused, Err(ProduceError::TooLargeRecompressed { .. })));
        }
    }
}
