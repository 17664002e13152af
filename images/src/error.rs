//! What can go wrong while images are built.

use std::io;
use std::path::{Path, PathBuf};

/// Why an image could not be had. All of them are for the user to solve: exit status 2.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// Debian packages that the build needs are not installed, and we are not root.
    #[error("{} needed to build the images; run: {command}", missing(packages))]
    MissingPackages {
        /// Names of the packages.
        packages: Vec<String>,
        /// The command that installs them.
        command: String,
    },
    /// A program ended with an error.
    #[error("`{program}` {what}{}", output_tail(output))]
    Command {
        /// The command line.
        program: String,
        /// How it ended.
        what: String,
        /// What it printed.
        output: String,
    },
    /// A file or directory could not be read or written.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// The verb.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A package could not be fetched.
    #[error(
        "cannot download {package} from Debian's archive ({why}); check the network, or take the newest packages: \
         vtmem images build --update"
    )]
    Download {
        /// Name and version.
        package: String,
        /// What apt-get says.
        why: String,
    },
    /// No room for what is built.
    #[error(
        "no space left for the images in {}; free some, or set XDG_CACHE_HOME to a directory on a larger disk",
        cache.display()
    )]
    DiskFull {
        /// The cache's directory.
        cache: PathBuf,
    },
    /// The kernel is none that we can use.
    #[error("{}: {why}", path.display())]
    Kernel {
        /// The kernel's file.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// Something the build looks for is not there, or is not what it should be.
    #[error("{0}")]
    Other(String),
}

impl ImagesError {
    /// For `map_err` on file operations.
    pub(crate) fn io(what: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { what, path, source }
    }

    /// Whether it was for want of space.
    pub(crate) fn is_disk_full(&self) -> bool {
        const MESSAGES: [&str; 3] = [
            "No space left on device",
            "Disk quota exceeded",
            "don't have enough free space",
        ];
        let says_so = |text: &str| MESSAGES.iter().any(|message| text.contains(message));
        match self {
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            Self::Command { output, .. } => says_so(output),
            Self::Download { why, .. } => says_so(why),
            Self::DiskFull { .. } => true,
            _ => false,
        }
    }

    /// The same, or that the disk of `cache` is full when that is why.
    pub(crate) fn or_disk_full(self, cache: &Path) -> Self {
        if self.is_disk_full() {
            Self::DiskFull {
                cache: cache.to_owned(),
            }
        } else {
            self
        }
    }
}

/// Shorthand within this crate.
pub(crate) type Result<T> = std::result::Result<T, ImagesError>;

fn missing(packages: &[String]) -> String {
    match packages {
        [one] => format!("the Debian package {one} is"),
        more => format!("the Debian packages {} are", more.join(", ")),
    }
}

/// The last lines that a program printed: where it says why it failed.
fn output_tail(output: &str) -> String {
    const LINES: usize = 15;
    let lines: Vec<_> = output
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let tail = &lines[lines.len().saturating_sub(LINES)..];
    if tail.is_empty() {
        String::new()
    } else {
        format!(":\n{}", tail.join("\n"))
    }
}
