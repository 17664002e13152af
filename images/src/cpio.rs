//! The kernel's initramfs archive format (cpio, "newc"): written without root, and read back for what a lab hands out.

use std::io::{self, Write};

const MAGIC: &[u8; 6] = b"070701";
const TRAILER: &str = "TRAILER!!!";
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;
const S_IFCHR: u32 = 0o020_000;
/// Bytes of a header.
const HEADER: usize = 110;

/// Writes an archive. Owners are root and times are zero: equal inputs make equal archives.
pub struct Writer<W: Write> {
    out: W,
    written: u64,
    inode: u32,
    directories: std::collections::BTreeSet<String>,
}

impl<W: Write> Writer<W> {
    /// An empty archive.
    pub fn new(out: W) -> Self {
        Self {
            out,
            written: 0,
            inode: 0,
            directories: Default::default(),
        }
    }

    /// Adds a directory with its parents, unless they are there.
    ///
    /// # Errors
    /// What the output reports.
    pub fn directory(&mut self, path: &str) -> io::Result<()> {
        let path = path.trim_matches('/');
        let ends = path
            .match_indices('/')
            .map(|(place, _)| place)
            .chain([path.len()]);
        for end in ends {
            let part = &path[..end];
            if !part.is_empty() && self.directories.insert(part.to_owned()) {
                self.member(part, S_IFDIR | 0o755, (0, 0), &[])?;
            }
        }
        Ok(())
    }

    fn parent(&mut self, path: &str) -> io::Result<()> {
        match path.trim_matches('/').rsplit_once('/') {
            Some((parent, _)) => self.directory(parent),
            None => Ok(()),
        }
    }

    /// Adds a regular file with its permission bits, and the directories above it.
    ///
    /// # Errors
    /// What the output reports; a file of 4 GiB or more.
    pub fn file(&mut self, path: &str, permissions: u32, data: &[u8]) -> io::Result<()> {
        self.parent(path)?;
        self.member(path, S_IFREG | permissions & 0o7777, (0, 0), data)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// What the output reports.
    pub fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.parent(path)?;
        self.member(path, S_IFLNK | 0o777, (0, 0), target.as_bytes())
    }

    /// Adds a character device.
    ///
    /// # Errors
    /// What the output reports.
    pub fn character_device(&mut self, path: &str, major: u32, minor: u32) -> io::Result<()> {
        self.parent(path)?;
        self.member(path, S_IFCHR | 0o600, (major, minor), &[])
    }

    fn member(&mut self, path: &str, mode: u32, device: (u32, u32), data: &[u8]) -> io::Result<()> {
        let path = path.trim_start_matches('/');
        let too_big = || io::Error::new(io::ErrorKind::InvalidInput, format!("{path} is too big"));
        let size = u32::try_from(data.len()).map_err(|_| too_big())?;
        let name_size = u32::try_from(path.len() + 1).map_err(|_| too_big())?;
        self.inode += 1;
        let links = if mode & S_IFDIR == S_IFDIR { 2 } else { 1 };
        let fields = [
            self.inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0,
        ];
        let mut header = MAGIC.to_vec();
        for field in fields {
            write!(header, "{field:08x}")?;
        }
        header.extend_from_slice(path.as_bytes());
        header.push(0);
        self.put(&header)?;
        self.align()?;
        self.put(data)?;
        self.align()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn align(&mut self) -> io::Result<()> {
        let padding = self.written.next_multiple_of(4) - self.written;
        self.put(&[0; 4][..padding as usize])
    }

    /// Ends the archive and returns the output. The kernel takes another archive right after this one.
    ///
    /// # Errors
    /// What the output reports.
    pub fn finish(mut self) -> io::Result<W> {
        self.member(TRAILER, 0, (0, 0), &[])?;
        let padding = self.written.next_multiple_of(512) - self.written;
        self.put(&[0; 512][..padding as usize])?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// A regular file found in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its path, without a leading slash.
    pub path: String,
    /// Its content.
    pub data: &'a [u8],
}

/// The regular files of an archive.
///
/// # Errors
/// Bytes that are no complete archive.
pub fn read(archive: &[u8]) -> io::Result<Vec<Member<'_>>> {
    let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("cpio: {what}"));
    let mut members = Vec::new();
    let mut offset = 0;
    loop {
        let header = archive
            .get(offset..offset + HEADER)
            .ok_or_else(|| broken("ends early"))?;
        if &header[..6] != MAGIC {
            return Err(broken("no header where one must be"));
        }
        let field = |index: usize| {
            let digits = &header[6 + index * 8..14 + index * 8];
            std::str::from_utf8(digits)
                .ok()
                .and_then(|digits| u32::from_str_radix(digits, 16).ok())
                .map(|value| value as usize)
                .ok_or_else(|| broken("a number is malformed"))
        };
        let (mode, size, name_size) = (field(1)?, field(6)?, field(11)?);
        let name_start = offset + HEADER;
        let name = archive
            .get(name_start..name_start + name_size)
            .and_then(|name| name.strip_suffix(&[0]))
            .ok_or_else(|| broken("a name ends early"))?;
        let start = (name_start + name_size).next_multiple_of(4);
        let data = archive
            .get(start..start + size)
            .ok_or_else(|| broken("a file ends early"))?;
        let path = String::from_utf8_lossy(name);
        if path == TRAILER {
            return Ok(members);
        }
        if mode as u32 & 0o170_000 == S_IFREG {
            members.push(Member {
                path: path.trim_start_matches('/').to_owned(),
                data,
            });
        }
        offset = (start + size).next_multiple_of(4);
    }
}

#[cfg(test)]
#[path = "cpio_test.rs"]
mod tests;
