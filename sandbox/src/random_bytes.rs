//! Bytes that look random and are the same each time: what stands in for a recording of any size, without
//! being held in memory. Not for secrets.

use sha2::{Digest as _, Sha256};

/// How many bytes are made at a time.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;

/// Fills `buffer` with the bytes that start at `offset` in the stream of `seed`.
pub fn fill(seed: u64, offset: u64, buffer: &mut [u8]) {
    let mut word_index = offset / 8;
    let lead = usize::try_from(offset % 8).unwrap_or(0);
    let mut rest = buffer;
    if lead > 0 {
        let word = word(seed, word_index).to_le_bytes();
        let taken = rest.len().min(8 - lead);
        let (head, tail) = rest.split_at_mut(taken);
        head.copy_from_slice(&word[lead..lead + taken]);
        rest = tail;
        word_index += 1;
    }
    for chunk in rest.chunks_mut(8) {
        chunk.copy_from_slice(&word(seed, word_index).to_le_bytes()[..chunk.len()]);
        word_index += 1;
    }
}

/// The SHA-256 of the first `size` bytes of the stream of `seed`, as 64 hexadecimal digits.
#[must_use]
pub fn sha256_of(size: u64, seed: u64) -> String {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    while offset < size {
        let length = chunk_length(size - offset);
        fill(seed, offset, &mut buffer[..length]);
        hash.update(&buffer[..length]);
        offset += length as u64;
    }
    hex::encode(hash.finalize())
}

/// At most [`CHUNK_BYTES`] of what remains.
pub(crate) fn chunk_length(remaining: u64) -> usize {
    usize::try_from(remaining).map_or(CHUNK_BYTES, |remaining| remaining.min(CHUNK_BYTES))
}

/// The `index`th word: the output function of SplitMix64 (Steele, Lea, Flood 2014), which may be entered at any place.
fn word(seed: u64, index: u64) -> u64 {
    let mut state = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn a_piece_from_the_middle_equals_that_piece_of_the_whole() {
        let mut whole = [0; 100];
        fill(7, 0, &mut whole);
        for start in 0..100 {
            for end in start..100 {
                let mut piece = vec![0; end - start];
                fill(7, start as u64, &mut piece);
                assert_eq!(piece, whole[start..end], "bytes {start} to {end}");
            }
        }
    }

    #[test]
    fn another_seed_gives_other_bytes() {
        let (mut one, mut two) = ([0; 64], [0; 64]);
        fill(1, 0, &mut one);
        fill(2, 0, &mut two);
        assert_ne!(one, two);
    }
}
