//! Files that a thread may still open, by Landlock.

use landlock::{
    ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, path_beneath_rules,
};

use super::Thread;

/// What is forbidden as far as the kernel knows it: Linux 6.10 knows all of it, 5.13 most.
const KNOWN: ABI = ABI::V5;

/// Leaves to the calling thread, and to those that it starts, reading the files that `thread` reads. False on a
/// kernel that cannot do that.
pub(super) fn restrict(thread: Thread) -> Result<bool, RulesetError> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .create()?
        .add_rules(path_beneath_rules(thread.reads(), AccessFs::ReadFile))?
        .restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}
