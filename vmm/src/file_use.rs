//! Who uses which file: one that is written has no other user.

use std::path::{Component, Path};

/// A file that somebody has a use for.
#[derive(Clone, Debug)]
pub struct FileUse<'a> {
    /// Who uses it, such as "disk root".
    pub user: String,
    /// The file.
    pub path: &'a Path,
    /// Whether it is written.
    pub written: bool,
}

impl<'a> FileUse<'a> {
    /// `user` reads `path`.
    pub fn read(user: impl Into<String>, path: &'a Path) -> Self {
        FileUse {
            user: user.into(),
            path,
            written: false,
        }
    }

    /// `user` writes `path`.
    pub fn written(user: impl Into<String>, path: &'a Path) -> Self {
        FileUse {
            written: true,
            ..FileUse::read(user, path)
        }
    }
}

/// Whether no file that one writes is used by another.
///
/// Names are compared, not files: disks are looked at when a machine starts, and locked then, so that one with two names is found
/// there.
///
/// # Errors
/// Two use the same file, and one of them writes it; names both.
pub fn check(uses: &[FileUse<'_>]) -> Result<(), String> {
    for (number, one) in uses.iter().enumerate() {
        let same = |other: &&FileUse<'_>| {
            (one.written || other.written) && parts(one.path).eq(parts(other.path))
        };
        let Some(other) = uses[..number].iter().find(same) else {
            continue;
        };
        let writer = if one.written { one } else { other };
        return Err(format!(
            "{} and {} are the same file, {}, and {} is written; give another file{}",
            other.user,
            one.user,
            one.path.display(),
            writer.user,
            if one.user.starts_with("disk") && other.user.starts_with("disk") {
                ", or have both only read it (readonly)"
            } else {
                ""
            }
        ));
    }
    Ok(())
}

/// What tells two paths apart. The current directory, which a confined thread may not ask for, is left out.
fn parts(path: &Path) -> impl Iterator<Item = Component<'_>> {
    path.components().filter(|part| *part != Component::CurDir)
}
