//! What a lab finds at boot besides its image: this program, the input files, the job, and how to prepare
//! for it. images/lab/init reads it.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use vtmem_images::cpio::Writer;

use super::config::LabConfig;
use super::qemu::CHANNEL;

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

/// What `/lab/job`, `/lab/setup` and `/lab/outputs` are made from.
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

impl Job<'_> {
    fn script(&self) -> String {
        let mut script = String::new();
        for (name, value) in self.environment {
            script += &format!("export {name}={}\n", quoted(value));
        }
        let words: Vec<_> = self.argv.iter().map(|word| quoted(word)).collect();
        script += "exec ";
        script += if words.is_empty() { "sh" } else { "" };
        script += &words.join(" ");
        script + "\n"
    }

    fn setup(&self) -> String {
        // Files come in the order in which session.rs maps them: images, output.
        let images = self
            .config
            .null_disks
            .iter()
            .filter_map(|d| d.image.as_ref());
        let mut setup = format!("memory_disks {}\n", images.count() + 1);
        let mut next = 0;
        for null in &self.config.null_disks {
            setup += &format!(
                "null_disk {} {} {} {}",
                quoted(&null.name),
                null.mib(),
                null.latency.as_nanos(),
                null.block_size,
            );
            if null.image.is_some() {
                setup += &format!(" \"$(memory_disk {next})\"");
                next += 1;
            }
            setup += "\n";
        }
        setup += &format!("output=$(memory_disk {next})\n");
        match self.connection {
            Connection::Terminal { rows, columns } => {
                setup += &format!("interactive=1\nrows={rows}\ncolumns={columns}\n");
            }
            Connection::Streams => setup += "standard_input\n",
            Connection::NoInput => {}
        }
        if self.config.channel.is_some() {
            // The port has its name just before it is connected.
            let port = CHANNEL.trim_start_matches("/dev/");
            let name = format!("/sys/class/virtio-ports/{port}/name");
            setup += &format!("until [ -e {name} ]; do sleep 0.01; done\n");
        }
        setup
    }

    fn outputs(&self) -> String {
        let lines = self.config.outputs.iter().map(|path| format!("{path}\n"));
        lines.collect()
    }

    /// Writes the root file system to `to`: `base`, and an archive of what belongs to this job. The same
    /// job gives the same bytes.
    ///
    /// # Errors
    /// A file that cannot be read, or no room for the result.
    pub fn write(&self, base: &Path, program: &Path, to: &File) -> io::Result<()> {
        let read = |path: &Path| {
            fs::read(path).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })
        };
        let mut out = BufWriter::new(to);
        out.write_all(&read(base)?)?;
        let mut archive = Writer::new(out);
        archive.file("bin/vtmem", 0o755, &read(program)?)?;
        for (path, inside) in &self.config.files {
            archive.file(inside.trim_start_matches('/'), 0o755, &read(path)?)?;
        }
        archive.file("lab/setup", 0o644, self.setup().as_bytes())?;
        archive.file("lab/outputs", 0o644, self.outputs().as_bytes())?;
        archive.file("lab/job", 0o644, self.script().as_bytes())?;
        archive.finish()?.flush()
    }
}

#[cfg(test)]
#[path = "archive_test.rs"]
mod tests;
