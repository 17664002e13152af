//! The data disk: an ext4 file system with the files that the workloads read.

use crate::cache::{Cache, KeyBuilder};
use crate::command::{program, run};
use crate::error::{ImagesError, Result};
use crate::packages::{Apt, Packages, ensure_programs};
use crate::progress::Progress;
use crate::source_tree;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use vtmem_workloads::content::{PAGE_SIZE, fill_page};
use vtmem_workloads::dataset::{self, SOURCE_DIR, SOURCE_EXPECT};
use vtmem_workloads::source::{Expectation, PATTERN};

/// Fixed, so that equal inputs make equal disks.
const UUID: &str = "76746d65-6d00-4000-8000-646174616469";
const EPOCH: &str = "1767225600";
/// ext4's block.
const BLOCK: u64 = 4096;

/// What the data disk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataDiskSpec {
    /// Bytes of memory of the guest that reads it; the files are a multiple of this.
    pub guest_mem: u64,
    /// What the files' content depends on.
    pub seed: u64,
}

/// A data disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDisk {
    /// The image: a whole number of MiB. Not to be written to: use a copy.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
}

impl DataDiskSpec {
    /// How much source there is to search: more than the guest can cache.
    fn source_bytes(self) -> u64 {
        self.guest_mem / 4 * 5
    }
}

pub(crate) fn build(
    cache: &Cache,
    apt: &mut Apt,
    packages: &Packages,
    spec: &DataDiskSpec,
    progress: &mut dyn Progress,
) -> Result<DataDisk> {
    let mut key = KeyBuilder::new();
    key.add_recipe(&[include_str!("data_disk.rs"), include_str!("source_tree.rs")])
        .add("source", &packages.source.sha256)
        .add("source bytes", spec.source_bytes().to_le_bytes())
        .add("pattern", PATTERN)
        .add("expectation", Expectation::default().to_text())
        .add("guest memory", spec.guest_mem.to_le_bytes())
        .add("seed", spec.seed.to_le_bytes());
    for file in dataset::files(spec.guest_mem) {
        // One page stands for how the generator makes all of them.
        let mut page = [0; PAGE_SIZE];
        fill_page(spec.seed, file.file, 0, &mut page);
        key.add(&file.path, page)
            .add("pages", file.pages.to_le_bytes());
    }
    let entry = cache.entry("data", &key.finish(), progress, |directory, progress| {
        ensure_programs(
            &[("mke2fs", "e2fsprogs"), ("debugfs", "e2fsprogs")],
            progress,
        )?;
        let tree = directory.join("tree");
        let source = tree.join(SOURCE_DIR);
        fs::create_dir_all(&tree).map_err(ImagesError::io("create", &tree))?;
        source_tree::unpack(
            apt,
            &packages.source,
            spec.source_bytes(),
            &source,
            progress,
        )?;
        progress.step("searching the kernel's sources for what the workload must find");
        let expectation =
            Expectation::of_tree(&source, PATTERN).map_err(ImagesError::io("search", &source))?;
        let path = tree.join(SOURCE_EXPECT);
        fs::write(&path, expectation.to_text()).map_err(ImagesError::io("write", &path))?;
        generate(spec, &tree, progress)?;
        progress.step("writing the data disk");
        make_ext4(&tree, &directory.join("data.img"))?;
        fs::remove_dir_all(&tree).map_err(ImagesError::io("remove", &tree))
    })?;
    let path = entry.join("data.img");
    let bytes = fs::metadata(&path)
        .map_err(ImagesError::io("read", &path))?
        .len();
    Ok(DataDisk { path, bytes })
}

fn generate(spec: &DataDiskSpec, tree: &Path, progress: &mut dyn Progress) -> Result<()> {
    progress.step("generating the workloads' files");
    let files: Vec<_> = dataset::files(spec.guest_mem).collect();
    for (done, file) in files.iter().enumerate() {
        progress.position(done as u64, files.len() as u64);
        let path = tree.join(&file.path);
        let parent = path.parent().unwrap_or(tree);
        fs::create_dir_all(parent).map_err(ImagesError::io("create", parent))?;
        let out = File::create(&path).map_err(ImagesError::io("create", &path))?;
        let mut out = BufWriter::with_capacity(1 << 20, out);
        file.write_to(spec.seed, &mut out)
            .and_then(|()| out.flush())
            .map_err(ImagesError::io("write", &path))?;
    }
    Ok(())
}

/// Everything below a directory in the order in which it goes onto the disk: directories before what is in them.
#[derive(Default)]
struct Listing {
    /// Commands for debugfs.
    script: String,
    files: u64,
    blocks: u64,
}

impl Listing {
    fn add(&mut self, tree: &Path, inside: &Path) -> Result<()> {
        let directory = tree.join(inside);
        let mut entries = Vec::new();
        for entry in fs::read_dir(&directory).map_err(ImagesError::io("read", &directory))? {
            entries.push(entry.map_err(ImagesError::io("read", &directory))?);
        }
        // The order of creation decides where a file lies on the disk; it must not depend on this machine's disk.
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let name = entry
                .file_name()
                .into_string()
                .ok()
                .filter(|name| !name.contains(['"', '\n']));
            let name = name.ok_or_else(|| {
                ImagesError::Other(format!("{}: cannot go onto the data disk", path.display()))
            })?;
            let metadata = entry.metadata().map_err(ImagesError::io("read", &path))?;
            self.files += 1;
            self.blocks += metadata.len().div_ceil(BLOCK);
            // Writing to a string cannot fail.
            if metadata.is_dir() {
                let _ = writeln!(self.script, "mkdir \"{name}\"\ncd \"{name}\"");
                self.add(tree, &inside.join(&name))?;
                let _ = writeln!(self.script, "cd ..");
            } else {
                // debugfs runs in the tree: paths above it may hold any character.
                let from = inside.join(&name);
                let _ = writeln!(self.script, "write \"{}\" \"{name}\"", from.display());
            }
        }
        Ok(())
    }
}

/// An ext4 image of `tree`. Not `mke2fs -d`: that takes over this machine's directory order and change times.
fn make_ext4(tree: &Path, image: &Path) -> Result<()> {
    let mut listing = Listing::default();
    listing.add(tree, Path::new(""))?;
    let inodes = listing.files + 256;
    // Room for inode tables (256 bytes each), directories, bitmaps and the journal.
    let blocks = listing.blocks * 101 / 100 + inodes / 16 + (32 << 20) / BLOCK;
    let bytes = (blocks * BLOCK).next_multiple_of(1 << 20);
    File::create(image)
        .and_then(|file| file.set_len(bytes))
        .map_err(ImagesError::io("create", image))?;

    let mut mke2fs = program("mke2fs");
    mke2fs
        .env("E2FSPROGS_FAKE_TIME", EPOCH)
        .args([
            "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0", "-J", "size=8", "-U",
            UUID,
        ])
        .args([
            "-L",
            "vtmem-data",
            "-O",
            "^resize_inode,^metadata_csum_seed",
            "-N",
            &inodes.to_string(),
        ])
        .arg("-E")
        .arg(format!(
            "hash_seed={UUID},lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0"
        ))
        .arg(image);
    run(&mut mke2fs)?;

    let script = image.with_extension("script");
    fs::write(&script, &listing.script).map_err(ImagesError::io("write", &script))?;
    let mut debugfs = program("debugfs");
    debugfs
        .env("E2FSPROGS_FAKE_TIME", EPOCH)
        .arg("-w")
        .arg("-f")
        .arg(&script)
        .arg(image)
        .current_dir(tree);
    let printed = run(&mut debugfs)?;
    // debugfs ends with success whatever its commands did; it prints its version first.
    let complaints: Vec<_> = printed
        .stderr
        .lines()
        .filter(|line| !line.starts_with("debugfs "))
        .collect();
    if !complaints.is_empty() {
        return Err(ImagesError::Command {
            program: "debugfs -w".to_owned(),
            what: "could not fill the data disk".to_owned(),
            output: complaints.join("\n"),
        });
    }
    fs::remove_file(&script).map_err(ImagesError::io("remove", &script))?;
    run(program("e2fsck").args(["-f", "-n"]).arg(image)).map(drop)
}

#[cfg(test)]
#[path = "data_disk_test.rs"]
mod tests;
