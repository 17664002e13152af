//! The socket's place in the file system: ours alone, and gone with us.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers there.
    #[error("{} is in use by a process that runs; give another path, or end that one", .0.display())]
    Live(PathBuf),
    /// There is something else.
    #[error("{} exists and is no socket; remove it, or give another path", .0.display())]
    NotASocket(PathBuf),
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
