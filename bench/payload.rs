//! Keys and values of the records: made up, or taken from a file.
//!
//! **Invariant:** the same seed gives the same bytes.

use std::borrow::Cow;

use anyhow::{Context, ensure};

use crate::arguments::LoadArgs;

/// Bytes of a made-up value in which random and plain bytes share.
const MIX_BYTES: usize = 32;

/// What plain bytes are.
const PLAIN: u8 = b'-';

/// Where the records' keys and values come from.
pub struct Payload {
    source: Source,
    keys: Option<u32>,
}

enum Source {
    /// So many bytes, letters of 4 bits of entropy each.
    Letters { bytes: usize },
    /// So many bytes, this share of them random and the others alike.
    Mixed { bytes: usize, share: f64 },
    /// Samples, in turn.
    Samples(Vec<Vec<u8>>),
}

impl Payload {
    /// As the flags say.
    ///
    /// # Errors
    /// The file of samples cannot be read or has no lines.
    pub fn new(args: &LoadArgs) -> anyhow::Result<Payload> {
        let bytes = args.record_bytes as usize;
        let source = match (&args.record_file, args.randomness) {
            (Some(path), _) => {
                let shown = path.display();
                let text = std::fs::read(path)
                    .with_context(|| format!("cannot read the records of --record-file {shown}"))?;
                let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                let samples: Vec<Vec<u8>> = lines.map(<[u8]>::to_vec).collect();
                ensure!(!samples.is_empty(), "--record-file {shown} has no lines");
                Source::Samples(samples)
            }
            (None, Some(share)) => Source::Mixed { bytes, share },
            (None, None) => Source::Letters { bytes },
        };
        Ok(Payload { source, keys: args.keys })
    }

    /// The value of the record at `seed`.
    pub fn value(&self, seed: u64) -> Cow<'_, [u8]> {
        match &self.source {
            Source::Letters { bytes } => letters(seed, *bytes).into(),
            Source::Mixed { bytes, share } => mixed(seed, *bytes, *share).into(),
            Source::Samples(samples) => {
                samples[(seed % samples.len() as u64) as usize].as_slice().into()
            }
        }
    }

    /// The key of the record at `seed`, where records have keys: any of them, equally often.
    pub fn key(&self, seed: u64) -> Option<Vec<u8>> {
        let keys_count = u64::from(self.keys?);
        let mut random = Random::new(seed);
        let index = random.next() % keys_count;
        Some(format!("key-{index:08}").into_bytes())
    }

    /// Bytes of the longest value.
    pub fn value_bytes_max(&self) -> usize {
        match &self.source {
            Source::Letters { bytes } | Source::Mixed { bytes, .. } => *bytes,
            Source::Samples(samples) => samples.iter().map(Vec::len).max().unwrap_or(0),
        }
    }
}

/// Printable bytes: codecs find something to do, about a half.
fn letters(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut value = Vec::with_capacity(bytes + 16);
    while value.len() < bytes {
        let word = random.next();
        value.extend((0..16).map(|nibble| b'a' + (word >> (4 * nibble) & 0xf) as u8));
    }
    value.truncate(bytes);
    value
}

/// Random bytes and plain ones, mixed finely enough that every record has its share of both.
fn mixed(seed: u64, bytes: usize, share: f64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let random_until = |position: usize| (position as f64 * share).round() as usize;
    let mut value = Vec::with_capacity(bytes + MIX_BYTES);
    while value.len() < bytes {
        let start = value.len();
        let random_count = random_until(start + MIX_BYTES) - random_until(start);
        while value.len() < start + random_count {
            value.extend(random.next().to_le_bytes());
        }
        value.truncate(start + random_count);
        value.resize(start + MIX_BYTES, PLAIN);
    }
    value.truncate(bytes);
    value
}

/// A xorshift generator: quick, and good enough to look at.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        let mut random =
            Random((seed ^ 0x5a17_c3e9_71d2_b684).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.next(); // small seeds differ in few bits
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn payload(source: Source) -> Payload {
        Payload { source, keys: None }
    }

    #[test]
    fn letters_are_printable_and_follow_their_seed() {
        let payload = payload(Source::Letters { bytes: 1001 });
        let value = payload.value(3);
        assert_eq!(value, payload.value(3));
        assert_ne!(value, payload.value(4));
        assert_eq!(value.len(), 1001);
        assert!(value.iter().all(u8::is_ascii_lowercase));
    }

    /// Goal: the share that was asked for is random. Method: what a codec makes of it.
    #[test]
    fn a_share_of_the_bytes_is_random() {
        let compressed = |share: f64| {
            let value = payload(Source::Mixed { bytes: 100_000, share }).value(9).into_owned();
            assert_eq!(value.len(), 100_000);
            zstd::bulk::compress(&value, 3).expect("compresses").len()
        };
        assert!(compressed(0.0) < 1_000);
        assert!((20_000..40_000).contains(&compressed(0.25)), "{}", compressed(0.25));
        assert!(compressed(1.0) > 99_000);
    }

    #[test]
    fn samples_come_in_turn_and_keys_from_their_set() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(b"one\n\ntwo\n").expect("writes");
        let path = file.path().to_str().expect("a name").to_owned();
        let args = crate::load::tests::load_args(&["--record-file", &path, "--keys", "3"]);
        let payload = Payload::new(&args).expect("two lines");
        let values: Vec<Cow<'_, [u8]>> = (0..3).map(|seed| payload.value(seed)).collect();
        assert_eq!(values, [&b"one"[..], b"two", b"one"]);
        assert_eq!(payload.value_bytes_max(), 3);
        let keys: std::collections::BTreeSet<_> = (0..100).map(|seed| payload.key(seed)).collect();
        assert_eq!(keys.len(), 3);
        let args = crate::load::tests::load_args(&["--record-file", "/nowhere"]);
        assert!(Payload::new(&args).is_err());
    }
}
