//! What a lab finds at boot besides its image: this program, the input files, the job, and how to prepare
//! for it. images/lab/init reads it.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use vtmem_images::cpio::Writer;

use super::config::LabConfig;

/// How the job is connected to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// A terminal.
    Terminal {
        /// Its height in characters.
        rows: u16,
        /// Its width in characters.
        columns: u16,
    },
    /// Three streams, the first fed from here.
    Streams,
    /// Two streams; the job's standard input is empty.
    NoInput,
}

/// What `/lab/job` and `/lab/setup` are made from.
pub struct Job<'a> {
    /// What the host has.
    pub config: &'a LabConfig,
    /// The command; empty for a shell.
    pub argv: &'a [String],
    /// Its environment, besides what init sets.
    pub environment: &'a [(String, String)],
    /// Its streams.
    pub connection: Connection,
}

/// `text` as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The name of the lab's `index`th virtio disk.
fn disk(index: usize) -> String {
    format!("/dev/vd{}", char::from(b'a' + index as u8))
}

impl Job<'_> {
    fn script(&self) -> String {
        let mut script = String::new();
        for (name, value) in self.environment {
            script += &format!("export {name}={}\n", quoted(value));
        }
        let words: Vec<_> = self.argv.iter().map(|word| quoted(word)).collect();
        let command = if words.is_empty() {
            "sh".to_owned()
        } else {
            words.join(" ")
        };
        let input = match self.connection {
            Connection::NoInput => " </dev/null",
            _ => "",
        };
        script += &format!("exec {command}{input}\n");
        script
    }

    fn setup(&self) -> String {
        let mut setup = String::new();
        // Disks come in the order in which qemu.rs lists them: passed through, images, output.
        let mut next = self.config.disks.len();
        for null in &self.config.null_disks {
            let image = null.image.as_ref().map(|_| {
                next += 1;
                disk(next - 1)
            });
            setup += &format!(
                "null_disk {} {} {} {} {}\n",
                quoted(&null.name),
                null.mib(),
                null.latency.as_nanos(),
                null.block_size,
                image.unwrap_or_default(),
            );
        }
        setup += &format!("output={}\n", disk(next));
        let outputs: Vec<_> = self
            .config
            .outputs
            .iter()
            .map(|path| path.trim_start_matches('/'))
            .collect();
        setup += &format!("outputs={}\n", quoted(&outputs.join(" ")));
        if let Connection::Terminal { rows, columns } = self.connection {
            setup += &format!("interactive=1\nrows={rows}\ncolumns={columns}\n");
        }
        setup
    }

    /// Writes the root file system: `base`, and an archive of what belongs to this job. The same job
    /// gives the same bytes.
    ///
    /// # Errors
    /// A file that cannot be read, or no room for the result.
    pub fn write(&self, base: &Path, program: &Path, to: &Path) -> io::Result<()> {
        let about = |path: &Path| {
            let path = path.display().to_string();
            move |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"))
        };
        let mut out = BufWriter::new(File::create(to).map_err(about(to))?);
        out.write_all(&fs::read(base).map_err(about(base))?)?;
        let mut archive = Writer::new(out);
        archive.file(
            "bin/vtmem",
            0o755,
            &fs::read(program).map_err(about(program))?,
        )?;
        for (path, inside) in &self.config.files {
            let content = fs::read(path).map_err(about(path))?;
            archive.file(inside.trim_start_matches('/'), 0o755, &content)?;
        }
        archive.file("lab/setup", 0o644, self.setup().as_bytes())?;
        archive.file("lab/job", 0o644, self.script().as_bytes())?;
        archive.finish()?.flush().map_err(about(to))
    }
}

#[cfg(test)]
#[path = "archive_test.rs"]
mod tests;
