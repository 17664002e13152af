//! What `torture` does to a file, as data: chosen from a seed alone, printed, read back and replayed.

use std::fmt;
use std::str::FromStr;
use vtmem_workloads::random::Random;

/// Pages under one lock; no operation on a range crosses them.
pub const STRIPE: u32 = 32;

/// The way in which bytes reach or leave a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `pread`, `pwrite` through the page cache.
    Buffered,
    /// The same with `O_DIRECT`.
    Direct,
    /// A shared mapping.
    Mapped,
    /// A mapping for which the kernel was told not to read ahead: page by page.
    Alone,
    /// io_uring, through the page cache.
    Ring,
    /// `splice` through a pipe; what is written gets into the pipe by `vmsplice`.
    Spliced,
    /// Asynchronous direct I/O. While a write is under way, its range is read through the page cache and reclaimed.
    Racing,
}

/// Every way, with its name in scripts.
const ACCESSES: [(Access, &str); 7] = [
    (Access::Buffered, "buffered"),
    (Access::Direct, "direct"),
    (Access::Mapped, "mapped"),
    (Access::Alone, "alone"),
    (Access::Ring, "ring"),
    (Access::Spliced, "spliced"),
    (Access::Racing, "racing"),
];

/// Pages of one stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first page's number in the file.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reads and compares.
    Read(Access, Range),
    /// Writes new content; with `true`, until it is on the disk.
    Write(Access, Range, bool),
    /// Makes a hole.
    Punch(Range),
    /// Makes zeros of blocks, without giving them up.
    Zero(Range),
    /// Sets the length, in bytes.
    Resize(u64),
    /// Takes pages out; the rest moves up.
    Collapse(Range),
    /// Puts a hole in; the rest moves down.
    Insert(Range),
    /// Reads the range and reclaims it, as memory pressure would; with `true`, dirty pages are written back first.
    Reclaim(Range, bool),
    /// Drops the file's clean pages.
    Forget,
    /// Deletes the file and makes a new one.
    Replace,
    /// Writes a new file and renames it over this one.
    RenameOver,
    /// Makes a file without a name, and links it in this one's place.
    Link,
    /// Deletes the file; it lives on as long as it is open.
    Unlink,
    /// Has the inode leave memory, with pages in the page cache.
    Uncache,
    /// Swaps blocks with another file (ext4), or shares them with it (xfs). The other file's number comes last.
    Exchange(Range, u32),
    /// Makes the range the same as another file's, and has them share blocks (xfs). The other file's number comes last.
    Share(Range, u32),
    /// Has the file's data go through the journal from now on, or no longer (ext4).
    Journal,
    /// Swaps to the file.
    SwapTo,
    /// Unloads the driver, with pools in use, and loads it again.
    Reload,
    /// Freezes the file system for a moment.
    Freeze,
    /// Drops all caches.
    DropCaches,
    /// Compacts memory: pages migrate.
    Compact,
    /// Mounts the file system anew.
    Remount,
    /// Changes a page on the disk while the file system is mounted read-only.
    WriteBelow(Range),
    /// Zeroes a page on the disk (BLKZEROOUT) while the file system is mounted read-only.
    ZeroBelow(Range),
    /// Makes a pool anew while a splice waits for an idle pipe, in the middle of a write.
    IdleSplice,
    /// Has the machine make an image of itself and write it to swap, as it does to hibernate.
    Hibernate,
    /// Changes a page on the disk while the file system is not mounted.
    WriteUnmounted(Range),
}

/// An operation, and the number of the file it is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Below the number of files.
    pub file: u32,
    /// What is done.
    pub kind: Kind,
}

impl Operation {
    /// Picks one, for `files` files of at most `pages` pages. Depends on nothing but its arguments.
    pub fn random(random: &mut Random, files: u32, pages: u32) -> Self {
        let below = |random: &mut Random, bound: u32| random.below(u64::from(bound)) as u32;
        let file = below(random, files);
        let range = range(random, pages);
        let durable = random.below(4) == 0;
        let kind = match random.below(10_000) {
            0..4400 => Kind::Read(access(random), range),
            4400..6900 => Kind::Write(access(random), range, durable),
            6900..7200 => Kind::Punch(range),
            7200..7400 => Kind::Zero(range),
            7400..7500 => Kind::Resize(match random.below(3) {
                0 => u64::from(pages) << 12,
                1 => u64::from(below(random, pages)) << 12,
                _ => random.below(u64::from(pages) << 12),
            }),
            7500..7550 => Kind::Collapse(range),
            7550..7600 => Kind::Insert(range),
            7600..9500 => Kind::Reclaim(range, durable),
            9500..9560 => Kind::Forget,
            9560..9600 => Kind::Replace,
            9600..9640 => Kind::RenameOver,
            9640..9670 => Kind::Link,
            9670..9700 => Kind::Unlink,
            9700..9800 => Kind::Uncache,
            // Rare, as nothing of such files is put any more until the file system is mounted anew.
            9800..9808 => Kind::Exchange(range, below(random, files)),
            9808..9810 => Kind::SwapTo,
            9810..9813 => Kind::Freeze,
            9813..9817 => Kind::DropCaches,
            9817..9821 => Kind::Compact,
            9821..9823 => Kind::Remount,
            9823..9828 => Kind::WriteBelow(range),
            9828..9840 => Kind::WriteUnmounted(range),
            9840..9860 => Kind::Share(range, below(random, files)),
            9860..9880 => Kind::Journal,
            9880..9883 => Kind::Reload,
            9883..9886 => Kind::ZeroBelow(range),
            9886..9890 => Kind::IdleSplice,
            9890..9891 => Kind::Hibernate,
            _ => Kind::Read(Access::Buffered, range),
        };
        Self { file, kind }
    }

    /// Whether it needs the whole file system to itself.
    pub fn is_of_volume(&self) -> bool {
        matches!(
            self.kind,
            Kind::Remount | Kind::WriteBelow(_) | Kind::ZeroBelow(_) | Kind::WriteUnmounted(_)
        )
    }

    /// Whether it does something to the file system or the machine that not everybody's may suffer.
    pub fn needs_volume(&self) -> bool {
        self.is_of_volume()
            || matches!(
                self.kind,
                Kind::SwapTo
                    | Kind::Freeze
                    | Kind::DropCaches
                    | Kind::Compact
                    | Kind::Reload
                    | Kind::IdleSplice
                    | Kind::Hibernate
            )
    }

    /// Whether it reads or changes the file numbered `file`, or all of them.
    pub fn concerns(&self, file: u32) -> bool {
        self.file == file
            || matches!(self.kind, Kind::Exchange(_, other) | Kind::Share(_, other) if other == file)
            || matches!(
                self.kind,
                Kind::DropCaches
                    | Kind::Compact
                    | Kind::Reload
                    | Kind::IdleSplice
                    | Kind::Hibernate
            )
            || self.is_of_volume()
    }
}

fn access(random: &mut Random) -> Access {
    match random.below(20) {
        0..7 => Access::Buffered,
        7..10 => Access::Mapped,
        10..12 => Access::Alone,
        12..14 => Access::Ring,
        14..16 => Access::Direct,
        16..18 => Access::Spliced,
        _ => Access::Racing,
    }
}

/// Short ranges and whole stripes: single pages, and readahead windows.
fn range(random: &mut Random, pages: u32) -> Range {
    let stripe = random.below(u64::from(pages / STRIPE)) as u32;
    let longest = if random.below(4) == 0 { STRIPE } else { 4 };
    let count = 1 + random.below(u64::from(longest)) as u32;
    let skipped = random.below(u64::from(STRIPE - count + 1)) as u32;
    Range {
        first: stripe * STRIPE + skipped,
        count,
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.first, self.count)
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = ACCESSES.iter().find(|(access, _)| access == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.file)?;
        let durably = |durable: bool| if durable { " durably" } else { "" };
        match self.kind {
            Kind::Read(access, range) => write!(f, "read {range} {access}"),
            Kind::Write(access, range, durable) => {
                write!(f, "write {range} {access}{}", durably(durable))
            }
            Kind::Punch(range) => write!(f, "punch {range}"),
            Kind::Zero(range) => write!(f, "zero {range}"),
            Kind::Resize(length) => write!(f, "resize {length}"),
            Kind::Collapse(range) => write!(f, "collapse {range}"),
            Kind::Insert(range) => write!(f, "insert {range}"),
            Kind::Reclaim(range, durable) => write!(f, "reclaim {range}{}", durably(durable)),
            Kind::Forget => f.write_str("forget"),
            Kind::Replace => f.write_str("replace"),
            Kind::RenameOver => f.write_str("rename-over"),
            Kind::Link => f.write_str("link"),
            Kind::Unlink => f.write_str("unlink"),
            Kind::Uncache => f.write_str("uncache"),
            Kind::Exchange(range, other) => write!(f, "exchange {range} {other}"),
            Kind::Share(range, other) => write!(f, "share {range} {other}"),
            Kind::Journal => f.write_str("journal"),
            Kind::SwapTo => f.write_str("swap-to"),
            Kind::Reload => f.write_str("reload"),
            Kind::Freeze => f.write_str("freeze"),
            Kind::DropCaches => f.write_str("drop-caches"),
            Kind::Compact => f.write_str("compact"),
            Kind::Remount => f.write_str("remount"),
            Kind::WriteBelow(range) => write!(f, "write-below {range}"),
            Kind::ZeroBelow(range) => write!(f, "zero-below {range}"),
            Kind::IdleSplice => f.write_str("idle-splice"),
            Kind::Hibernate => f.write_str("hibernate"),
            Kind::WriteUnmounted(range) => write!(f, "write-unmounted {range}"),
        }
    }
}

impl FromStr for Operation {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let wrong = || format!("{line:?}: not an operation of torture");
        let words: Vec<_> = line.split_whitespace().collect();
        let range = |place: usize| -> Result<Range, String> {
            let (first, count) = words
                .get(place)
                .and_then(|word| word.split_once('+'))
                .ok_or_else(wrong)?;
            let range = Range {
                first: first.parse().map_err(|_| wrong())?,
                count: count.parse().map_err(|_| wrong())?,
            };
            let inside = range.first % STRIPE + range.count <= STRIPE;
            (range.count > 0 && inside)
                .then_some(range)
                .ok_or_else(wrong)
        };
        let access = || {
            let named = ACCESSES.iter().find(|(_, name)| words.get(3) == Some(name));
            named.map(|(access, _)| *access).ok_or_else(wrong)
        };
        let number = |place: usize| -> Result<u64, String> {
            let word = words.get(place).ok_or_else(wrong)?;
            word.parse().map_err(|_| wrong())
        };
        let durable = words.last() == Some(&"durably");
        let kind = match *words.get(1).ok_or_else(wrong)? {
            "read" => Kind::Read(access()?, range(2)?),
            "write" => Kind::Write(access()?, range(2)?, durable),
            "punch" => Kind::Punch(range(2)?),
            "zero" => Kind::Zero(range(2)?),
            "resize" => Kind::Resize(number(2)?),
            "collapse" => Kind::Collapse(range(2)?),
            "insert" => Kind::Insert(range(2)?),
            "reclaim" => Kind::Reclaim(range(2)?, durable),
            "forget" => Kind::Forget,
            "replace" => Kind::Replace,
            "rename-over" => Kind::RenameOver,
            "link" => Kind::Link,
            "unlink" => Kind::Unlink,
            "uncache" => Kind::Uncache,
            "exchange" => Kind::Exchange(range(2)?, number(3)? as u32),
            "share" => Kind::Share(range(2)?, number(3)? as u32),
            "journal" => Kind::Journal,
            "swap-to" => Kind::SwapTo,
            "reload" => Kind::Reload,
            "freeze" => Kind::Freeze,
            "drop-caches" => Kind::DropCaches,
            "compact" => Kind::Compact,
            "remount" => Kind::Remount,
            "write-below" => Kind::WriteBelow(range(2)?),
            "zero-below" => Kind::ZeroBelow(range(2)?),
            "idle-splice" => Kind::IdleSplice,
            "hibernate" => Kind::Hibernate,
            "write-unmounted" => Kind::WriteUnmounted(range(2)?),
            _ => return Err(wrong()),
        };
        Ok(Self {
            file: number(0)? as u32,
            kind,
        })
    }
}

#[cfg(test)]
#[path = "operation_test.rs"]
mod tests;
