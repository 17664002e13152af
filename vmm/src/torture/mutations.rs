//! What the driver can be built without, to show that each of these is needed and found missing.

use super::FileSystem;

/// One thing left out, and the file system where that shows soonest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// As `make VTMEM_MUTATE=` has it.
    pub name: &'static str,
    /// Where to look.
    pub fs: FileSystem,
}

const fn on_ext4(name: &'static str) -> Mutation {
    Mutation {
        name,
        fs: FileSystem::Ext4,
    }
}

/// All of them, by the names in guest-driver/.
pub const MUTATIONS: [Mutation; 20] = [
    on_ext4("remove"),
    Mutation {
        name: "remove-large",
        fs: FileSystem::Xfs,
    },
    on_ext4("batch"),
    on_ext4("truncate"),
    on_ext4("invalidate"),
    on_ext4("direct"),
    on_ext4("direct-error"),
    on_ext4("direct-count"),
    on_ext4("evict"),
    on_ext4("unmount"),
    on_ext4("bdev"),
    on_ext4("bdev-write"),
    on_ext4("bdev-discard"),
    on_ext4("bdev-ioctl"),
    on_ext4("bmap"),
    on_ext4("quota"),
    on_ext4("early"),
    on_ext4("move-extents"),
    on_ext4("swapfile"),
    on_ext4("writeback-failed"),
];

/// What `vtmem pressure` finds missing: a bound, by which nothing that is read is any different.
pub const UNDER_PRESSURE: [&str; 1] = ["plug"];

/// What end-to-end tests find missing, in guests that are made for it: `dax::…` and `suspend::…`. `vtmem images build --mutate` builds
/// them.
pub const BY_TESTS: [&str; 2] = ["dax", "suspend"];

/// The names of all of them.
pub fn all() -> impl Iterator<Item = &'static str> {
    let coherence = MUTATIONS.iter().map(|mutation| mutation.name);
    coherence.chain(UNDER_PRESSURE).chain(BY_TESTS)
}

/// The mutation called `name`.
pub fn find(name: &str) -> Option<Mutation> {
    MUTATIONS.into_iter().find(|mutation| mutation.name == name)
}

#[cfg(test)]
#[path = "mutations_test.rs"]
mod tests;
