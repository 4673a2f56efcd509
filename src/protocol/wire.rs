//! Reading and writing the primitive types of Kafka's wire format.
//!
//! A [`Reader`] borrows from the frame; a [`Writer`] collects bytes and leaves gaps (cuts) where
//! record slices of somebody else's memory go. **Invariant:** what a decoded message occupies is at
//! most [`DECODED_FACTOR_MAX`] times the frame plus [`DECODED_BYTES_FREE`], whatever the frame
//! declares.

use super::schema::Kind;
use crate::base::ids::TopicId;

/// How many bytes of memory a frame's byte may decode into. An element of an array takes more room
/// in memory than on the wire (a string of 3 wire bytes is 16 bytes of slice); 8 admits every array
/// whose strings are not almost all empty.
pub const DECODED_FACTOR_MAX: usize = 8;

/// Bytes of decoded arrays that any frame may ask for, so that small frames are never refused.
pub const DECODED_BYTES_FREE: usize = 64 * 1024;

/// Longest string, bytes: what the 16-bit length of the older encoding can say. Kafka holds the
/// compact encoding to the same bound, so a string that came in can always go out.
pub const TEXT_BYTES_MAX: usize = i16::MAX as usize;

/// Bytes that are no message. Says what was expected and what there was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("{need_bytes} bytes are needed, {have_bytes} are left")]
    Truncated { need_bytes: usize, have_bytes: usize },
    #[error("{count_bytes} bytes are left after the end of the message")]
    TrailingBytes { count_bytes: usize },
    #[error("{count} elements are declared, {have_bytes} bytes are left")]
    CountTooLarge { count: usize, have_bytes: usize },
    #[error("{count} elements would take more memory than a frame of this size may")]
    TooDense { count: usize },
    #[error("a length of {length} where the least is {least}")]
    BadLength { length: i64, least: i64 },
    #[error("a string of {length_bytes} bytes; the most is {TEXT_BYTES_MAX}")]
    TextTooLong { length_bytes: usize },
    #[error("a string is not UTF-8")]
    NotUtf8,
    #[error("null where this version allows none")]
    UnexpectedNull,
    #[error("a variable-length number does not end or does not fit")]
    VarintTooLong,
}

/// Which version of a message is meant, and whether it uses the compact encodings and tagged
/// fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    pub number: i16,
    pub flexible: bool,
}

/// Takes values from the front of a frame.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    budget_bytes: usize, // what decoded arrays may still occupy
}

impl<'a> Reader<'a> {
    /// Reads `bytes`, usually a frame without its size.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        let budget_bytes = bytes.len().saturating_mul(DECODED_FACTOR_MAX) + DECODED_BYTES_FREE;
        Reader { bytes, budget_bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`WireError::Truncated`]: fewer are left.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let Some((head, tail)) = self.bytes.split_at_checked(count) else {
            let have_bytes = self.bytes.len();
            return Err(WireError::Truncated { need_bytes: count, have_bytes });
        };
        self.bytes = tail;
        Ok(head)
    }

    #[inline]
    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let Some((head, tail)) = self.bytes.split_first_chunk() else {
            let have_bytes = self.bytes.len();
            return Err(WireError::Truncated { need_bytes: N, have_bytes });
        };
        self.bytes = tail;
        Ok(*head)
    }

    /// An unsigned number of 7 bits a byte, 5 bytes at most.
    ///
    /// # Errors
    /// [`WireError::VarintTooLong`]: it does not fit in 32 bits. [`WireError::Truncated`].
    #[inline]
    pub fn uvarint(&mut self) -> Result<u32, WireError> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.take_array()?;
            if shift == 28 && byte > 0x0f {
                return Err(WireError::VarintTooLong);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::VarintTooLong)
    }

    /// All was read.
    ///
    /// # Errors
    /// [`WireError::TrailingBytes`]: something is left.
    pub fn finish(&self) -> Result<(), WireError> {
        match self.bytes.len() {
            0 => Ok(()),
            count_bytes => Err(WireError::TrailingBytes { count_bytes }),
        }
    }

    /// A length in the encoding of `version`, `None` for null.
    #[inline]
    fn length(&mut self, version: Version, wide: bool) -> Result<Option<usize>, WireError> {
        let length = match (version.flexible, wide) {
            (true, _) => i64::from(self.uvarint()?) - 1,
            (false, true) => i64::from(i32::from_be_bytes(self.take_array()?)),
            (false, false) => i64::from(i16::from_be_bytes(self.take_array()?)),
        };
        match length {
            -1 => Ok(None),
            0.. => Ok(Some(length as usize)),
            _ => Err(WireError::BadLength { length, least: -1 }),
        }
    }

    #[inline]
    fn text(&mut self, version: Version) -> Result<Option<&'a str>, WireError> {
        let Some(length_bytes) = self.length(version, false)? else { return Ok(None) };
        if length_bytes > TEXT_BYTES_MAX {
            return Err(WireError::TextTooLong { length_bytes });
        }
        let bytes = self.take(length_bytes)?;
        std::str::from_utf8(bytes).map(Some).map_err(|_| WireError::NotUtf8)
    }

    #[inline]
    fn blob(&mut self, version: Version) -> Result<Option<&'a [u8]>, WireError> {
        let Some(length_bytes) = self.length(version, true)? else { return Ok(None) };
        self.take(length_bytes).map(Some)
    }

    /// The elements of an array, `None` for null. A count that the rest of the frame cannot hold,
    /// or whose elements would exceed the budget, is refused before anything is allocated.
    fn array<T: Wire<'a>>(&mut self, version: Version) -> Result<Option<Vec<T>>, WireError> {
        let Some(count) = self.length(version, true)? else { return Ok(None) };
        let have_bytes = self.bytes.len();
        if count > have_bytes / T::KIND.bytes_min(version).max(1) {
            return Err(WireError::CountTooLarge { count, have_bytes });
        }
        let occupied_bytes = count.saturating_mul(size_of::<T>());
        let Some(left_bytes) = self.budget_bytes.checked_sub(occupied_bytes) else {
            return Err(WireError::TooDense { count });
        };
        self.budget_bytes = left_bytes;
        // A lying count costs no more than the frame itself; the rest follows once elements came.
        let mut items = Vec::with_capacity(count.min(have_bytes / size_of::<T>().max(1)));
        for index in 0..count {
            if items.len() == items.capacity() {
                items.reserve_exact(count - index);
            }
            items.push(T::read(self, version)?);
        }
        Ok(Some(items))
    }

    /// Tagged fields: calls `known` with each tag and its body; what it does not read of a tag it
    /// knows is an error, a tag for which it says `false` is skipped.
    ///
    /// # Errors
    /// A count or length that the rest of the frame cannot hold, or what `known` returns.
    pub fn tags(
        &mut self,
        mut known: impl FnMut(u32, &mut Reader<'a>) -> Result<bool, WireError>,
    ) -> Result<(), WireError> {
        const TAG_BYTES_MIN: usize = 2;
        let count = self.uvarint()? as usize;
        let have_bytes = self.bytes.len();
        if count > have_bytes / TAG_BYTES_MIN {
            return Err(WireError::CountTooLarge { count, have_bytes });
        }
        for _ in 0..count {
            let tag = self.uvarint()?;
            let length_bytes = self.uvarint()? as usize;
            let bytes = self.take(length_bytes)?;
            let mut body = Reader { bytes, budget_bytes: self.budget_bytes };
            if known(tag, &mut body)? {
                body.finish()?;
            }
            self.budget_bytes = body.budget_bytes;
        }
        Ok(())
    }
}

/// A place in the head where `bytes` bytes of somebody else's memory go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Bytes of the head that come before.
    pub position: usize,
    /// Bytes that are to be put here; more than 0.
    pub bytes: usize,
}

/// A frame with its size in front: the head's bytes and, in order, where foreign slices are put in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    pub head: Vec<u8>,
    pub cuts: Vec<Cut>,
}

impl Encoded {
    /// Length of the whole frame with the foreign slices, bytes.
    pub fn bytes(&self) -> usize {
        self.head.len() + self.cuts.iter().map(|cut| cut.bytes).sum::<usize>()
    }
}

/// Collects a message's bytes and the cuts between them.
#[derive(Debug, Default)]
pub struct Writer {
    head: Vec<u8>,
    cuts: Vec<Cut>,
}

impl Writer {
    /// An empty writer with room for `head_bytes`.
    pub fn with_capacity(head_bytes: usize) -> Writer {
        Writer { head: Vec::with_capacity(head_bytes), cuts: Vec::new() }
    }

    /// Appends `bytes` as they are.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        self.head.extend_from_slice(bytes);
    }

    /// Leaves a gap for `bytes` bytes that the sender puts in.
    pub fn cut(&mut self, bytes: usize) {
        if bytes > 0 {
            self.cuts.push(Cut { position: self.head.len(), bytes });
        }
    }

    /// Appends an unsigned number, 7 bits a byte.
    #[inline]
    pub fn put_uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.head.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.head.push(value as u8);
    }

    /// A tagged field: its tag, its length, and what `body` writes. No cut may lie in the body.
    pub fn put_tag(&mut self, tag: u32, body: impl FnOnce(&mut Writer)) {
        self.put_uvarint(tag);
        let start = self.head.len();
        let cuts_count = self.cuts.len();
        body(self);
        assert_eq!(self.cuts.len(), cuts_count, "records are no tagged field");
        let end = self.head.len();
        self.put_uvarint(u32::try_from(end - start).expect("a tagged field is below 4 GiB"));
        let length_bytes = self.head.len() - end;
        self.head[start..].rotate_right(length_bytes);
    }

    /// The bytes and cuts that were collected.
    pub fn finish(self) -> Encoded {
        Encoded { head: self.head, cuts: self.cuts }
    }

    /// Puts the size of the whole into the 4 bytes at the front, which the caller left there.
    pub(super) fn finish_frame(self) -> Encoded {
        let mut encoded = self.finish();
        let bytes = encoded.bytes() - size_of::<i32>();
        let size = i32::try_from(bytes).expect("a frame is below 2 GiB");
        encoded.head[..size_of::<i32>()].copy_from_slice(&size.to_be_bytes());
        encoded
    }

    #[inline]
    fn put_length(&mut self, version: Version, length: Option<usize>, wide: bool) {
        if version.flexible {
            let length = length.map_or(0, |length| length + 1);
            self.put_uvarint(u32::try_from(length).expect("lengths are below 2 GiB"));
        } else if wide {
            let length = length.map_or(Ok(-1), i32::try_from);
            self.put(&length.expect("lengths are below 2 GiB").to_be_bytes());
        } else {
            let length = length.map_or(Ok(-1), i16::try_from);
            self.put(&length.expect("strings are within TEXT_BYTES_MAX").to_be_bytes());
        }
    }
}

/// A type that has a place in Kafka's messages.
pub trait Wire<'a>: Sized {
    /// What it is, for tools that walk a message without knowing it.
    const KIND: Kind;

    /// Takes one from the reader.
    ///
    /// # Errors
    /// What is there is none; see [`WireError`].
    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, WireError>;

    /// Appends it.
    fn write(&self, writer: &mut Writer, version: Version);

    /// As `read`, in a version that does not allow null.
    ///
    /// # Errors
    /// As `read`, and [`WireError::UnexpectedNull`].
    fn read_present(reader: &mut Reader<'a>, version: Version) -> Result<Self, WireError> {
        Self::read(reader, version)
    }

    /// As `write`, in a version that does not allow null: an empty value goes out in its place.
    fn write_present(&self, writer: &mut Writer, version: Version) {
        self.write(writer, version);
    }
}

macro_rules! numbers {
    ($($number:ty => $kind:ident,)*) => {$(
        impl<'a> Wire<'a> for $number {
            const KIND: Kind = Kind::$kind;

            #[inline]
            fn read(reader: &mut Reader<'a>, _: Version) -> Result<Self, WireError> {
                Ok(<$number>::from_be_bytes(reader.take_array()?))
            }

            #[inline]
            fn write(&self, writer: &mut Writer, _: Version) {
                writer.put(&self.to_be_bytes());
            }
        }
    )*};
}

numbers! { i8 => I8, i16 => I16, u16 => U16, i32 => I32, i64 => I64, f64 => F64, }

impl<'a> Wire<'a> for bool {
    const KIND: Kind = Kind::Bool;

    #[inline]
    fn read(reader: &mut Reader<'a>, _: Version) -> Result<Self, WireError> {
        Ok(reader.take_array::<1>()? != [0])
    }

    #[inline]
    fn write(&self, writer: &mut Writer, _: Version) {
        writer.put(&[u8::from(*self)]);
    }
}

impl<'a> Wire<'a> for TopicId {
    const KIND: Kind = Kind::Uuid;

    #[inline]
    fn read(reader: &mut Reader<'a>, _: Version) -> Result<Self, WireError> {
        Ok(TopicId(u128::from_be_bytes(reader.take_array()?)))
    }

    #[inline]
    fn write(&self, writer: &mut Writer, _: Version) {
        writer.put(&self.0.to_be_bytes());
    }
}

impl<'a> Wire<'a> for Option<&'a str> {
    const KIND: Kind = Kind::Text { nullable: true };

    #[inline]
    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, WireError> {
        reader.text(version)
    }

    #[inline]
    fn write(&self, writer: &mut Writer, version: Version) {
        writer.put_length(version, self.map(str::len), false);
        writer.put(self.unwrap_or_default().as_bytes());
    }

    fn read_present(reader: &mut Reader<'a>, version: Version) -> Result<Self, WireError> {
        <&str>::read(reader, version).map(Some)
    }

    fn write_present(&self, writer: &mut Writer, version: Version) {
        self.unwrap_or_default().write(writer, version);
    }
}

impl<'a> Wire<'a> for &'a str {
    const KIND: Kind = Kind::Text { nullable: false };

    #[inline]
    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, WireError> {
        reader.text(version)?.ok_or(WireError::UnexpectedNull)
    }

    #[inline]
    fn write(&self, writer: &mut Writer, version: Version) {
        writer.put_length(version, Some(self.len()), false);
        writer.put(self.as_bytes());
    }
}

impl<'a> Wire<'a> for Option<&'a [u8]> {
    const KIND: Kind = Kind::Bytes { nullable: true };

    #[inline]
    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, WireError> {
        reader.blob(version)
    }

    #[inline]
    fn write(&self, writer: &mut Writer, version: Version) {
        writer.put_length(version, self.map(<[u8]>::len), true);
        writer.put(self.unwrap_or_default());
    }

    fn read_present(reader: &mut Reader<'a>, version: Version) -> Result<Self, WireError> {
        <&[u8]>::read(reader, version).map(Some)
    }

    fn write_present(&self, writer: &mut Writer, version: Version) {
        self.unwrap_or_default().write(writer, version);
    }
}

impl<'a> Wire<'a> for &'a [u8] {
    const KIND: Kind = Kind::Bytes { nullable: false };

    #[inline]
    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, WireError> {
        reader.blob(version)?.ok_or(WireError::UnexpectedNull)
    }

    #[inline]
    fn write(&self, writer: &mut Writer, version: Version) {
        writer.put_length(version, Some(self.len()), true);
        writer.put(self);
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Vec<T> {
    const KIND: Kind = Kind::Array { nullable: false, item: &T::KIND };

    #[inline]
    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, WireError> {
        reader.array(version)?.ok_or(WireError::UnexpectedNull)
    }

    fn write(&self, writer: &mut Writer, version: Version) {
        writer.put_length(version, Some(self.len()), true);
        for item in self {
            item.write(writer, version);
        }
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Option<Vec<T>> {
    const KIND: Kind = Kind::Array { nullable: true, item: &T::KIND };

    #[inline]
    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, WireError> {
        reader.array(version)
    }

    fn write(&self, writer: &mut Writer, version: Version) {
        match self {
            Some(items) => items.write(writer, version),
            None => writer.put_length(version, None, true),
        }
    }

    fn read_present(reader: &mut Reader<'a>, version: Version) -> Result<Self, WireError> {
        Vec::read(reader, version).map(Some)
    }

    fn write_present(&self, writer: &mut Writer, version: Version) {
        match self {
            Some(items) => items.write(writer, version),
            None => writer.put_length(version, Some(0), true),
        }
    }
}

/// A run of record batches in a message. Decoding borrows it from the frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Records<'a> {
    #[default]
    Null,
    Bytes(&'a [u8]),
    /// So many bytes that are not copied into the message: the encoder leaves a [`Cut`] for them.
    Elsewhere {
        bytes: usize,
    },
}

impl<'a> Records<'a> {
    /// The bytes that came in or are to be copied out; empty for null.
    ///
    /// # Panics
    /// The records are elsewhere: nothing that was decoded is.
    pub fn bytes(&self) -> &'a [u8] {
        match *self {
            Records::Null => &[],
            Records::Bytes(bytes) => bytes,
            Records::Elsewhere { .. } => panic!("only an encoder meets records that are elsewhere"),
        }
    }
}

impl<'a> Wire<'a> for Records<'a> {
    const KIND: Kind = Kind::Records;

    #[inline]
    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, WireError> {
        Ok(reader.blob(version)?.map_or(Records::Null, Records::Bytes))
    }

    #[inline]
    fn write(&self, writer: &mut Writer, version: Version) {
        match *self {
            Records::Null => writer.put_length(version, None, true),
            Records::Bytes(bytes) => bytes.write(writer, version),
            Records::Elsewhere { bytes } => {
                writer.put_length(version, Some(bytes), true);
                writer.cut(bytes);
            }
        }
    }
}
