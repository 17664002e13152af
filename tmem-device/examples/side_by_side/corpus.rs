//! Pages as machines have them: files of the system, in the order of their names.

use std::path::Path;

use tmem_device::pool::Page;
use tmem_device::wire::PAGE_SIZE;

/// Where they are looked for, each giving its part.
const PLACES: [&str; 4] = [
    "/usr/include",
    "/usr/bin",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib",
];

/// A file gives so many pages at most, so that no one rules.
const MOST: usize = 512;

pub struct Corpus {
    pub pages: Vec<Page>,
    pub origin: String,
    /// Of the contents, to tell one corpus from another: FNV-1a.
    pub hash: u64,
}

/// The first `count` pages that there are; none is one word over and over.
pub fn collect(count: usize) -> Corpus {
    let mut pages = Vec::with_capacity(count);
    for (number, place) in (1..).zip(PLACES) {
        walk(Path::new(place), &mut pages, count * number / PLACES.len());
    }
    let mut origin = format!("files of {}", PLACES.join(", "));
    if pages.len() < count {
        let found = pages.len();
        origin += &format!(", and {} made ones", count - found);
        pages.extend((found..count).map(made));
    }
    let bytes = pages.as_flattened().iter();
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Corpus {
        pages,
        origin,
        hash,
    }
}

fn walk(place: &Path, pages: &mut Vec<Page>, limit: usize) {
    let Ok(entries) = std::fs::read_dir(place) else {
        return;
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let Ok(metadata) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        if pages.len() >= limit {
            return;
        }
        if metadata.is_dir() {
            walk(&path, pages, limit);
        } else if metadata.is_file()
            && let Ok(data) = std::fs::read(&path)
        {
            let (whole, _) = data.as_chunks::<PAGE_SIZE>();
            let useful = whole.iter().filter(|page| !repeats(page)).take(MOST);
            pages.extend(useful.take(limit - pages.len()));
        }
    }
}

fn repeats(page: &Page) -> bool {
    let (words, _) = page.as_chunks::<8>();
    words.iter().all(|word| *word == words[0])
}

/// Half noise, half text.
fn made(number: usize) -> Page {
    let mut state = number as u64 * 2 + 1;
    std::array::from_fn(|at| {
        if at % 64 < 32 {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 56) as u8
        } else {
            b"and so on and on "[at % 17]
        }
    })
}
