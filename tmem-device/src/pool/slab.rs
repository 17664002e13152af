//! A slab without holes: the last place moves into that of one that is removed.
//!
//! It grows and shrinks by chunks that go back to the kernel, so its memory follows what is in it in both directions, whatever
//! order that comes and goes in, and nothing is copied when it grows.

use super::heap::MAPPED;

/// Chunks of places.
pub(super) struct Slab<T> {
    /// All full but the last two: one in part, and perhaps an empty one, as what comes and goes at the end of a chunk is not to cost
    /// a system call each time.
    chunks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab {
            chunks: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Slab<T> {
    /// Places in a chunk: the least power of two that makes it a mapping of its own.
    const CHUNK: usize = MAPPED.div_ceil(size_of::<T>()).next_power_of_two();

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn get(&self, slot: u32) -> &T {
        &self.chunks[slot as usize / Self::CHUNK][slot as usize % Self::CHUNK]
    }

    pub fn get_mut(&mut self, slot: u32) -> &mut T {
        &mut self.chunks[slot as usize / Self::CHUNK][slot as usize % Self::CHUNK]
    }

    pub fn push(&mut self, place: T) {
        let chunk = self.len / Self::CHUNK;
        if chunk == self.chunks.len() {
            self.chunks.push(Vec::with_capacity(Self::CHUNK));
        }
        self.chunks[chunk].push(place);
        self.len += 1;
    }

    /// # Panics
    /// The slab is empty.
    pub fn pop(&mut self) -> T {
        self.len -= 1;
        let place = self.chunks[self.len / Self::CHUNK].pop();
        if self.len.is_multiple_of(Self::CHUNK / 2) {
            let needed = self.len.div_ceil(Self::CHUNK);
            let spare = usize::from(self.len.is_multiple_of(Self::CHUNK));
            self.chunks.truncate(needed + spare);
            shrink(&mut self.chunks);
        }
        place.expect("a chunk has as many places as are counted")
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.chunks.len() * Self::CHUNK * size_of::<T>()
            + self.chunks.capacity() * size_of::<Vec<T>>()
    }
}

/// Returns the memory of a vector that is a quarter full. What is copied for that was popped before, three times.
pub(super) fn shrink<T>(places: &mut Vec<T>) {
    if places.len() < places.capacity() / 4 {
        places.shrink_to(places.capacity() / 2);
    }
}
