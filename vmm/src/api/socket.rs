//! The socket's place in the file system: ours alone, and gone with us.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{Mode, fchmod};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// How often, and after how long each time, the directory is tried to be had alone.
const TRIES: usize = 200;
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers there.
    #[error("{} is in use by a process that runs; give another path, or end that one", .0.display())]
    Live(PathBuf),
    /// There is something else.
    #[error("{} exists and is no socket; remove it, or give another path", .0.display())]
    NotASocket(PathBuf),
    /// Another process holds the directory's lock.
    #[error("{} is locked by another process, which may be making the same socket; try again", .0.display())]
    Busy(PathBuf),
    /// The kernel refuses.
    #[error("cannot make the socket {}: {source}", path.display())]
    Refused {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A socket that listens, under a name that goes away with this.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    name: Name,
}

/// The name; removed when dropped, unless it names something else by then.
#[derive(Debug)]
pub struct Name {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl Socket {
    /// Listens at `path`, for this user only. What a VMM that is gone has left there is replaced.
    ///
    /// # Errors
    /// Somebody listens there; there is something else; the kernel refuses.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let refused = |source: io::Error| SocketError::Refused {
            path: path.to_owned(),
            source,
        };
        // Of two that find the same stale socket, the later one must not take the earlier one's for it.
        let _alone = lock_directory(path)?;
        remove_stale(path)?;
        let listener = listen_at(path).map_err(refused)?;
        let identity = identity(path).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        Ok(Socket {
            listener,
            name: Name {
                path: path.to_owned(),
                identity,
            },
        })
    }

    /// The listener, and what keeps its name.
    pub fn into_parts(self) -> (UnixListener, Name) {
        (self.listener, self.name)
    }
}

/// Holds the lock of the directory that `path` is in. Where it cannot be read, nothing is held.
fn lock_directory(path: &Path) -> Result<Option<File>, SocketError> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let Ok(opened) = File::open(directory) else {
        return Ok(None);
    };
    for _ in 0..TRIES {
        match opened.try_lock() {
            Ok(()) => return Ok(Some(opened)),
            Err(TryLockError::WouldBlock) => sleep(TRY_AGAIN),
            // File systems need not have locks.
            Err(TryLockError::Error(_)) => return Ok(None),
        }
    }
    Err(SocketError::Busy(directory.to_owned()))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// A listener whose name has mode 0600 from its first moment on: the kernel takes the mode of the socket itself.
fn listen_at(path: &Path) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC;
    let socket: OwnedFd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .map_err(|source| SocketError::Refused {
                path: path.to_owned(),
                source,
            }),
        // A full backlog, or no permission, is a live one, too.
        _ => Err(SocketError::Live(path.to_owned())),
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // It may have gone meanwhile.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_private_and_goes_away() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("api");
        let socket = Socket::bind(&path).expect("a socket");
        let mode = fs::metadata(&path).expect("its metadata").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn stale_is_replaced_and_live_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("api");
        drop(UnixListener::bind(&path).expect("a socket to leave behind"));
        let first = Socket::bind(&path).expect("in its place");
        let second = Socket::bind(&path).expect_err("in use");
        assert!(matches!(second, SocketError::Live(_)), "{second}");
        assert!(path.exists());
        drop(first);
    }

    #[test]
    fn of_many_that_find_a_stale_one_one_has_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("api");
        for _ in 0..50 {
            drop(UnixListener::bind(&path).expect("a socket to leave behind"));
            // Those that are made live until all have tried.
            let made = std::sync::Mutex::new(Vec::new());
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| match Socket::bind(&path) {
                        Ok(socket) => made.lock().expect("no panic").push(socket),
                        Err(error) => assert!(matches!(error, SocketError::Live(_)), "{error}"),
                    });
                }
            });
            assert_eq!(made.into_inner().expect("no panic").len(), 1);
            assert!(!path.exists(), "its name goes with it");
        }
    }

    #[test]
    fn a_directory_that_stays_locked_is_said_to_be() {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = File::open(dir.path()).expect("opened");
        lock.lock().expect("locked");
        let busy = Socket::bind(&dir.path().join("api")).expect_err("locked");
        assert!(matches!(busy, SocketError::Busy(_)), "{busy}");
    }

    #[test]
    fn files_and_successors_are_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("api");
        fs::write(&path, "precious").expect("a file");
        let refused = Socket::bind(&path).expect_err("a file");
        assert!(matches!(refused, SocketError::NotASocket(_)), "{refused}");
        fs::remove_file(&path).expect("removed");
        let socket = Socket::bind(&path).expect("a socket");
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "precious").expect("a file");
        drop(socket);
        assert!(path.exists());
    }
}
