//! Debian packages: which versions, how they come here, and their installation where a program is missing.

use crate::cache::{Cache, KeyBuilder};
use crate::command::{find_program, program, run};
use crate::error::{ImagesError, Result};
use crate::progress::{Progress, Silent};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One version of a package, as the archive describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub name: String,
    pub version: String,
    /// Digest of the `.deb` file, in hexadecimal.
    pub sha256: String,
    /// Names of the packages it depends on; of alternatives, the first.
    pub depends: Vec<String>,
}

/// The packages that go into the images. Remembered after the first build, so that images stay the same until an update
/// is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packages {
    pub kernel: Package,
    /// Headers of the kernel's flavour first, then what they depend on.
    pub headers: Vec<Package>,
    pub busybox: Package,
    /// GNU grep first, then its shared libraries.
    pub grep: Vec<Package>,
    /// The kernel's sources: the real input of the `source` workload.
    pub source: Package,
}

const KERNEL_META: &str = "linux-image-cloud-amd64";
const HEADERS_META: &str = "linux-headers-cloud-amd64";
const BUSYBOX: &str = "busybox-static";
const GREP: [&str; 3] = ["grep", "libc6", "libpcre2-8-0"];
/// The file in the cache that remembers them.
const PINNED: &str = "packages";
/// The directory in the cache for package lists of our own, and the lock for it.
const LISTS: &str = "apt";

/// Looks packages up and fetches them.
pub(crate) struct Apt<'a> {
    cache: &'a Cache,
    /// Own lists, because the machine's are absent or too old.
    own_lists: bool,
}

/// How often a download is tried. apt-get itself tries each mirror more than once.
const ATTEMPTS: u32 = 3;
const RETRIES: [&str; 2] = ["-o", "Acquire::Retries=2"];
/// Another apt-get or dpkg may be at work.
const PATIENCE: [&str; 2] = ["-o", "DPkg::Lock::Timeout=300"];

impl<'a> Apt<'a> {
    pub fn new(cache: &'a Cache) -> Self {
        let mut apt = Self {
            cache,
            own_lists: false,
        };
        apt.own_lists = apt.own_root().join("lists").is_dir();
        apt
    }

    /// Forgets which packages the last build took, and the lists they came from.
    pub fn forget(&self) -> Result<()> {
        let _lock = self.cache.lock(LISTS, &mut Silent)?;
        for path in [self.cache.root().join(PINNED), self.own_root()] {
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            match removed {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(ImagesError::io("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The remembered packages, or today's when there are none or `update` asks for them.
    pub fn packages(&mut self, update: bool, progress: &mut dyn Progress) -> Result<Packages> {
        let path = self.cache.root().join(PINNED);
        if !update {
            let remembered = fs::read_to_string(&path).ok();
            if let Some(packages) = remembered.and_then(|text| from_text(&text)) {
                return Ok(packages);
            }
        }
        let packages = self
            .resolve(update, progress)
            .map_err(|error| error.or_disk_full(self.cache.root()))?;
        // Renamed into place when complete.
        let partial = tempfile::NamedTempFile::new_in(self.cache.root())
            .map_err(ImagesError::io("write in", self.cache.root()))?;
        fs::write(partial.path(), to_text(&packages)).map_err(ImagesError::io("write", &path))?;
        partial
            .persist(&path)
            .map_err(|error| ImagesError::io("rename", &path)(error.error))?;
        Ok(packages)
    }

    fn resolve(&mut self, update: bool, progress: &mut dyn Progress) -> Result<Packages> {
        let has_apt = ["apt-get", "apt-cache", "dpkg-deb"]
            .iter()
            .all(|p| find_program(p).is_some());
        if !has_apt {
            return Err(ImagesError::Other(
                "the images are made from Debian packages, but apt-get or dpkg-deb is not here; \
                 run vtmem on Debian"
                    .to_owned(),
            ));
        }
        progress.step("looking up Debian packages");
        let mut names = vec![KERNEL_META, HEADERS_META, BUSYBOX];
        names.extend(GREP);
        if update || self.show(&names).is_err() {
            self.fetch_lists(progress)?;
        }
        let first = self.show(&names)?;
        let kernel_name = depends_on(&first[0], "linux-image-")?;
        let headers_name = depends_on(&first[1], "linux-headers-")?;
        let both = self.show(&[&kernel_name, &headers_name])?;
        let [kernel, flavour] = &both[..] else {
            unreachable!("as many as asked for")
        };
        let common = depends_on(flavour, "linux-headers-")?;
        let kbuild = depends_on(flavour, "linux-kbuild-")?;
        // linux-image-6.1.0-56-cloud-amd64 is built from linux-source-6.1.
        let release = kernel_name.trim_start_matches("linux-image-");
        let series: Vec<_> = release.split('.').take(2).collect();
        let source = format!("linux-source-{}", series.join("."));
        let rest = self.show(&[&common, &kbuild, &source])?;
        let mut headers = vec![flavour.clone()];
        headers.extend_from_slice(&rest[..2]);
        Ok(Packages {
            kernel: kernel.clone(),
            headers,
            busybox: first[2].clone(),
            grep: first[3..].to_vec(),
            source: rest[2].clone(),
        })
    }

    /// Lists of our own: works without root and leaves the machine's as they are.
    fn fetch_lists(&mut self, progress: &mut dyn Progress) -> Result<()> {
        // apt-get has a lock of its own, but does not wait for it.
        let _lock = self.cache.lock(LISTS, progress)?;
        progress.step("fetching Debian's package lists");
        self.own_lists = true;
        let root = self.own_root();
        for directory in ["lists/partial", "archives/partial"] {
            let directory = root.join(directory);
            fs::create_dir_all(&directory).map_err(ImagesError::io("create", &directory))?;
        }
        run(self
            .command("apt-get")
            .args(RETRIES)
            .args(["-qq", "update"]))
        .map(drop)
    }

    fn own_root(&self) -> PathBuf {
        self.cache.root().join(LISTS)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = program(name);
        if self.own_lists {
            let root = self.own_root();
            for (option, place) in [
                ("Dir::State::lists", "lists"),
                ("Dir::Cache::archives", "archives"),
                ("Dir::Cache::pkgcache", "pkgcache.bin"),
                ("Dir::Cache::srcpkgcache", "srcpkgcache.bin"),
            ] {
                let mut value = OsString::from(format!("{option}="));
                value.push(root.join(place));
                command.arg("-o").arg(value);
            }
        }
        command
    }

    /// The candidate versions of packages, in the order of their names.
    fn show(&self, names: &[&str]) -> Result<Vec<Package>> {
        let mut command = self.command("apt-cache");
        let found = match run(command.args(["show", "--no-all-versions"]).args(names)) {
            Ok(printed) => parse_stanzas(&printed.stdout),
            // None of them: said below, and better.
            Err(ImagesError::Command { output, .. }) if output.contains("No packages found") => {
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        names
            .iter()
            .map(|name| {
                found
                    .iter()
                    .find(|package| package.name == *name)
                    .cloned()
                    .ok_or_else(|| {
                        ImagesError::Other(format!(
                            "Debian's package lists have no {name}; check the network and apt's sources \
                             (a Debian release with linux-image-cloud-amd64)"
                        ))
                    })
            })
            .collect()
    }

    /// The package's `.deb` file, from the cache or the archive.
    pub fn deb(&mut self, package: &Package, progress: &mut dyn Progress) -> Result<PathBuf> {
        let key = KeyBuilder::new()
            .add("name", &package.name)
            .add("version", &package.version)
            .add("sha256", &package.sha256)
            .finish();
        let entry = self
            .cache
            .entry("package", &key, progress, |directory, progress| {
                let what = format!("downloading {} {}", package.name, package.version);
                progress.step(&what);
                for _ in 1..ATTEMPTS {
                    match self.download(package, directory) {
                        Err(error) if !error.is_disk_full() => {
                            progress.note(&format!("{error}; trying again"));
                        }
                        done => return done,
                    }
                    // The lists may be too old and name files that are no more. When they can't be had either, the
                    // download's own error says why.
                    let _ = self.fetch_lists(progress);
                    progress.step(&what);
                }
                self.download(package, directory)
            })?;
        Ok(entry.join("deb"))
    }

    fn download(&self, package: &Package, directory: &Path) -> Result<()> {
        let what = format!("{}={}", package.name, package.version);
        let mut command = self.command("apt-get");
        let downloaded = run(command
            .args(RETRIES)
            .args(["-qq", "download", &what])
            .current_dir(directory));
        downloaded.map_err(|error| match error {
            ImagesError::Command { output, what, .. } => ImagesError::Download {
                package: format!("{} {}", package.name, package.version),
                why: reason(&output).unwrap_or(what),
            },
            error => error,
        })?;
        accept(package, directory)
    }

    /// Unpacks the package into `directory`.
    pub fn unpack(
        &mut self,
        package: &Package,
        directory: &Path,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let deb = self.deb(package, progress)?;
        progress.step(&format!("unpacking {}", package.name));
        run(program("dpkg-deb").arg("-x").arg(deb).arg(directory)).map(drop)
    }
}

/// Makes sure that programs are there, installing their Debian packages when root.
///
/// # Errors
/// Programs are missing and we are not root, or the installation fails.
pub fn ensure_programs(needed: &[(&str, &str)], progress: &mut dyn Progress) -> Result<()> {
    let missing = || {
        let absent = needed
            .iter()
            .filter(|(name, _)| find_program(name).is_none());
        let mut packages: Vec<String> = absent.map(|(_, package)| (*package).to_owned()).collect();
        packages.sort();
        packages.dedup();
        packages
    };
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    if !is_root() || find_program("apt-get").is_none() {
        return Err(not_installed(packages));
    }
    progress.note(&format!(
        "installing Debian packages: {}",
        packages.join(" ")
    ));
    let install = || {
        let mut command = program("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        run(command
            .args(RETRIES)
            .args(PATIENCE)
            .args(["-qq", "-y", "--no-install-recommends", "install"])
            .args(&packages))
    };
    if install().is_err() {
        run(program("apt-get").args(["-qq", "update"]))?;
        install()?;
    }
    match missing() {
        none if none.is_empty() => Ok(()),
        still => Err(not_installed(still)),
    }
}

fn not_installed(packages: Vec<String>) -> ImagesError {
    let names = packages.join(" ");
    let command =
        format!("sudo apt-get update && sudo apt-get install --no-install-recommends {names}");
    ImagesError::MissingPackages { packages, command }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    // A process's own directory in /proc belongs to its effective user.
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// Takes the file that apt-get left in `directory`, if it is the package's.
fn accept(package: &Package, directory: &Path) -> Result<()> {
    let unusable = |why: &str| ImagesError::Download {
        package: format!("{} {}", package.name, package.version),
        why: why.to_owned(),
    };
    let file = fs::read_dir(directory)
        .map_err(ImagesError::io("read", directory))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or_else(|| unusable("apt-get left no file"))?;
    if KeyBuilder::file_digest(&file)? != package.sha256 {
        fs::remove_file(&file).map_err(ImagesError::io("remove", &file))?;
        return Err(unusable("not the file that the package lists describe"));
    }
    fs::rename(&file, directory.join("deb")).map_err(ImagesError::io("rename", &file))
}

/// The error that apt-get printed first: the others follow from it.
fn reason(output: &str) -> Option<String> {
    output
        .lines()
        .find_map(|line| line.strip_prefix("E: "))
        .map(|line| line.trim().to_owned())
}

fn depends_on(package: &Package, prefix: &str) -> Result<String> {
    package
        .depends
        .iter()
        .find(|name| name.starts_with(prefix))
        .cloned()
        .ok_or_else(|| {
            ImagesError::Other(format!("Debian's {} depends on no {prefix}*", package.name))
        })
}

/// What `apt-cache show` prints: paragraphs of `Field: value`, continued on lines that begin with a space.
fn parse_stanzas(text: &str) -> Vec<Package> {
    text.split("\n\n")
        .filter_map(|stanza| {
            let field = |name: &str| {
                let start = format!("{name}: ");
                stanza
                    .lines()
                    .find_map(|line| line.strip_prefix(&start))
                    .map(str::trim)
            };
            let depends = field("Depends")
                .unwrap_or_default()
                .split(',')
                .filter_map(|one| one.split_whitespace().next())
                .map(|name| name.split(':').next().unwrap_or(name).to_owned())
                .collect();
            Some(Package {
                name: field("Package")?.to_owned(),
                version: field("Version")?.to_owned(),
                sha256: field("SHA256")?.to_owned(),
                depends,
            })
        })
        .collect()
}

fn to_text(packages: &Packages) -> String {
    let mut text = String::new();
    let mut line = |role: &str, package: &Package| {
        let Package {
            name,
            version,
            sha256,
            depends: _,
        } = package;
        text += &format!("{role} {name} {version} {sha256}\n");
    };
    line("kernel", &packages.kernel);
    packages
        .headers
        .iter()
        .for_each(|package| line("headers", package));
    line("busybox", &packages.busybox);
    packages
        .grep
        .iter()
        .for_each(|package| line("grep", package));
    line("source", &packages.source);
    text
}

/// `None` when the text is not one that [`to_text`] wrote: then the packages are looked up anew.
fn from_text(text: &str) -> Option<Packages> {
    let mut lines = Vec::new();
    for line in text.lines() {
        let words: Vec<_> = line.split(' ').collect();
        let [role, name, version, sha256] = words[..] else {
            return None;
        };
        let package = Package {
            name: name.to_owned(),
            version: version.to_owned(),
            sha256: sha256.to_owned(),
            depends: Vec::new(),
        };
        lines.push((role, package));
    }
    let all = |role: &str| -> Vec<Package> {
        lines
            .iter()
            .filter(|(r, _)| *r == role)
            .map(|(_, package)| package.clone())
            .collect()
    };
    let one = |role: &str| all(role).pop();
    let (headers, grep) = (all("headers"), all("grep"));
    (headers.len() == 3 && grep.len() == GREP.len()).then_some(())?;
    Some(Packages {
        kernel: one("kernel")?,
        headers,
        busybox: one("busybox")?,
        grep,
        source: one("source")?,
    })
}

#[cfg(test)]
#[path = "packages_test.rs"]
mod tests;
