//! What a search through the source tree must find, worked out when the data disk is built.

use crate::random::mix;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What the search looks for when nothing else is asked: a word that is frequent in kernel sources, but not in every file.
pub const PATTERN: &str = "spinlock_t";

/// First line of the file, so that an older layout is not misread.
const TITLE: &str = "vtmem-source 1";

/// The outcome of a search: `grep -rhaF PATTERN DIR`, whatever order it finds the lines in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Matches {
    /// Lines that contain the pattern.
    pub lines: u64,
    /// The sum of the lines' checksums.
    pub checksum: u64,
}

impl Matches {
    /// Adds a line, without its newline.
    pub fn add(&mut self, line: &[u8]) {
        self.lines += 1;
        let mut checksum = Checksum::default();
        checksum.update(line);
        self.checksum = self.checksum.wrapping_add(checksum.finish());
    }
}

/// One file of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Relative to the tree.
    pub path: PathBuf,
    /// Length in bytes.
    pub length: u64,
    /// [`Checksum`] of the content.
    pub checksum: u64,
}

/// All that is known about the tree; stored on the data disk as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expectation {
    /// What is searched for: a fixed string.
    pub pattern: String,
    /// What one search finds.
    pub matches: Matches,
    /// The regular files, in the order of their paths.
    pub files: Vec<SourceFile>,
}

impl Expectation {
    /// Reads the tree below `root` and searches it for `pattern`. Symbolic links are not followed, as `grep -r` does not.
    ///
    /// # Errors
    /// A directory or file that cannot be read; a path with a newline in it; no match at all.
    pub fn of_tree(root: &Path, pattern: &str) -> io::Result<Self> {
        let mut expectation = Self {
            pattern: pattern.to_owned(),
            ..Self::default()
        };
        let mut directories = vec![PathBuf::new()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(root.join(&directory))? {
                let entry = entry?;
                let path = directory.join(entry.file_name());
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    directories.push(path);
                } else if kind.is_file() {
                    let file = expectation.search_file(root, path)?;
                    expectation.files.push(file);
                }
            }
        }
        expectation.files.sort_by(|a, b| a.path.cmp(&b.path));
        if expectation.matches.lines == 0 {
            return Err(invalid(format!(
                "no line below {} contains {pattern:?}",
                root.display()
            )));
        }
        Ok(expectation)
    }

    fn search_file(&mut self, root: &Path, path: PathBuf) -> io::Result<SourceFile> {
        if path.as_os_str().as_bytes().contains(&b'\n') {
            return Err(invalid(format!("a newline in the file name {path:?}")));
        }
        let content = std::fs::read(root.join(&path))?;
        let pattern = self.pattern.as_bytes();
        if contains(&content, pattern) {
            let lines = content
                .strip_suffix(b"\n")
                .unwrap_or(&content)
                .split(|b| *b == b'\n');
            for line in lines.filter(|line| contains(line, pattern)) {
                self.matches.add(line);
            }
        }
        let mut checksum = Checksum::default();
        checksum.update(&content);
        Ok(SourceFile {
            path,
            length: content.len() as u64,
            checksum: checksum.finish(),
        })
    }

    /// Bytes in all files together.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.length).sum()
    }

    /// The text form.
    pub fn to_text(&self) -> Vec<u8> {
        let mut head = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(head, "{TITLE}\n{}", self.pattern);
        let _ = writeln!(
            head,
            "{} {:016x}",
            self.matches.lines, self.matches.checksum
        );
        let mut text = head.into_bytes();
        for file in &self.files {
            text.extend_from_slice(format!("{:016x} {} ", file.checksum, file.length).as_bytes());
            text.extend_from_slice(file.path.as_os_str().as_bytes());
            text.push(b'\n');
        }
        text
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// Input that cannot be read or is not of this form.
    pub fn from_text(input: impl Read) -> io::Result<Self> {
        let mut lines = BufReader::new(input).split(b'\n');
        let mut line = || {
            lines
                .next()
                .transpose()?
                .ok_or_else(|| invalid("source.expect ends early".to_owned()))
        };
        if line()? != TITLE.as_bytes() {
            return Err(invalid(format!(
                "source.expect does not begin with {TITLE:?}"
            )));
        }
        let pattern = String::from_utf8(line()?)
            .map_err(|_| invalid("source.expect: the pattern is not UTF-8".to_owned()))?;
        let totals = line()?;
        let (count, checksum) = split_word(&totals).ok_or_else(|| {
            invalid("source.expect: third line is not 'LINES CHECKSUM'".to_owned())
        })?;
        let matches = Matches {
            lines: number(count, 10)?,
            checksum: number(checksum, 16)?,
        };
        let mut files = Vec::new();
        for line in lines {
            let line = line?;
            let fields = split_word(&line)
                .and_then(|(checksum, rest)| Some((checksum, split_word(rest)?)))
                .ok_or_else(|| {
                    invalid("source.expect: a line is not 'CHECKSUM LENGTH PATH'".to_owned())
                })?;
            let (checksum, (length, path)) = fields;
            files.push(SourceFile {
                path: PathBuf::from(OsString::from_vec(path.to_vec())),
                length: number(length, 10)?,
                checksum: number(checksum, 16)?,
            });
        }
        Ok(Self {
            pattern,
            matches,
            files,
        })
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn split_word(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = line.iter().position(|b| *b == b' ')?;
    Some((&line[..space], &line[space + 1..]))
}

fn number(digits: &[u8], radix: u32) -> io::Result<u64> {
    OsStr::from_bytes(digits)
        .to_str()
        .and_then(|digits| u64::from_str_radix(digits, radix).ok())
        .ok_or_else(|| invalid("source.expect: a number is malformed".to_owned()))
}

fn contains(text: &[u8], pattern: &[u8]) -> bool {
    let Some(first) = pattern.first() else {
        return true;
    };
    let mut rest = text;
    while let Some(place) = rest.iter().position(|b| b == first) {
        if rest[place..].starts_with(pattern) {
            return true;
        }
        rest = &rest[place + 1..];
    }
    false
}

/// A checksum that depends on every byte and on its place; cheap on eight bytes at a time.
#[derive(Clone, Debug, Default)]
pub struct Checksum {
    state: u64,
    length: u64,
    partial: [u8; 8],
}

impl Checksum {
    /// Adds `bytes`; how the input is cut into pieces does not matter.
    pub fn update(&mut self, mut bytes: &[u8]) {
        let filled = (self.length % 8) as usize;
        self.length += bytes.len() as u64;
        if filled > 0 {
            let taken = bytes.len().min(8 - filled);
            self.partial[filled..filled + taken].copy_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if filled + taken < 8 {
                return;
            }
            self.word(self.partial);
        }
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.word(word.try_into().expect("chunks of eight bytes"));
        }
        self.partial[..words.remainder().len()].copy_from_slice(words.remainder());
    }

    fn word(&mut self, word: [u8; 8]) {
        // Multiplying by an odd number and rotating are bijections: one changed word always changes the state.
        self.state = (self.state ^ u64::from_le_bytes(word))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29);
    }

    /// The checksum of everything added.
    pub fn finish(mut self) -> u64 {
        let filled = (self.length % 8) as usize;
        if filled > 0 {
            self.partial[filled..].fill(0);
            self.word(self.partial);
        }
        mix(self.state ^ self.length)
    }
}

#[cfg(test)]
#[path = "source_test.rs"]
mod tests;
