//! CRC-32C of bytes whose end stays the same: what comes before may change, at little cost.
//!
//! The checksum of a concatenation is that of its first part moved over so many bytes, and that of
//! its second part added. Moving is linear: 32 bits in, 32 bits out, each bit by itself. So it is
//! worked out once for a length, and then is four look-ups a checksum, where working it out anew
//! takes a matrix product for each bit of the length.

/// Moves a checksum over so many bytes.
pub struct Shift {
    /// What each byte of the checksum becomes, by its place and its value.
    tables: [[u32; 256]; 4],
}

impl Shift {
    /// The shift over `bytes` bytes.
    pub fn new(bytes: usize) -> Shift {
        let moved_bit = |bit: usize| crc32c::crc32c_combine(1 << bit, 0, bytes);
        let moved_bits: [u32; 32] = std::array::from_fn(moved_bit);
        let moved_byte = |place: usize, value: usize| {
            let set_bits = (0..8).filter(|bit| value >> bit & 1 == 1);
            set_bits.fold(0, |moved, bit| moved ^ moved_bits[8 * place + bit])
        };
        let tables = std::array::from_fn(|place| {
            std::array::from_fn(|value| moved_byte(place, value)) // sums of bits: it is linear
        });
        Shift { tables }
    }

    /// The checksum of a first part with checksum `first` and a second one with `second`, which is
    /// as long as this shift.
    pub fn combine(&self, first: u32, second: u32) -> u32 {
        let moved = first.to_le_bytes();
        let parts = self.tables.iter().zip(moved);
        parts.fold(second, |sum, (table, byte)| sum ^ table[usize::from(byte)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: it is the checksum of both parts together. Method: lengths about powers of two and a
    /// batch's, checked against a look at all the bytes.
    #[test]
    fn two_checksums_make_that_of_both_parts() {
        let bytes: Vec<u8> =
            (0..100_000u32).map(|index| index.wrapping_mul(2_654_435_761) as u8).collect();
        for second_bytes in [0, 1, 7, 8, 63, 255, 256, 257, 4096, 65_475, 99_000] {
            let shift = Shift::new(second_bytes);
            for first_bytes in [0, 1, 40, 1000] {
                let (first, rest) = bytes.split_at(first_bytes);
                let (first, second) =
                    (crc32c::crc32c(first), crc32c::crc32c(&rest[..second_bytes]));
                let both = crc32c::crc32c(&bytes[..first_bytes + second_bytes]);
                assert_eq!(shift.combine(first, second), both, "{first_bytes} + {second_bytes}");
            }
        }
    }
}
