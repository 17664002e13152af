//! The lines in which `vtmem-work pressure` tells the host how it goes, and the kinds of pressure.

/// What begins a line that says which kind is next; its name follows.
pub const KIND_PREFIX: &str = "vtmem-kind: ";
/// What begins the line of one round of one kind: its name, then bytes verified, bytes wrong, and how many processes the OOM
/// killer ended meanwhile.
pub const ROUND_PREFIX: &str = "vtmem-round: ";
/// What begins the line of a round that did not come to its end: the kind's name, and why.
pub const BROKEN_PREFIX: &str = "vtmem-broken: ";

/// A way to be short of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `MADV_PAGEOUT`, then `MADV_WILLNEED` of all of it.
    Bulk,
    /// `MADV_COLD`, and others take the memory.
    Cold,
    /// `swapoff` while much is swapped out.
    Swapoff,
    /// A fork with much memory, which both change.
    Fork,
    /// Half of memory is locked.
    Lock,
    /// A memory cgroup at its limit.
    Cgroup,
    /// `readahead(2)` and `posix_fadvise(2)` of a file larger than memory.
    Readahead,
    /// `process_madvise(2)` on another process.
    Remote,
    /// Transparent huge pages that are split while they are swapped out.
    Huge,
    /// All of them at once, but for `swapoff`.
    Together,
}

impl Kind {
    /// All, in the order in which they come.
    pub const ALL: [Self; 10] = [
        Self::Bulk,
        Self::Cold,
        Self::Swapoff,
        Self::Fork,
        Self::Lock,
        Self::Cgroup,
        Self::Readahead,
        Self::Remote,
        Self::Huge,
        Self::Together,
    ];

    /// Its name on command lines and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Cold => "cold",
            Self::Swapoff => "swapoff",
            Self::Fork => "fork",
            Self::Lock => "lock",
            Self::Cgroup => "cgroup",
            Self::Readahead => "readahead",
            Self::Remote => "remote",
            Self::Huge => "huge",
            Self::Together => "together",
        }
    }

    /// The kind called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}
