//! Debian packages: which versions, how they come here, and their installation where a program is missing.

use crate::cache::{Cache, KeyBuilder};
use crate::command::{find_program, program, run};
use crate::error::{ImagesError, Result};
use crate::progress::Progress;
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

/// Looks packages up and fetches them.
pub(crate) struct Apt<'a> {
    cache: &'a Cache,
    /// Own lists, because the machine has none.
    own_lists: bool,
}

impl<'a> Apt<'a> {
    pub fn new(cache: &'a Cache) -> Self {
        Self {
            cache,
            own_lists: false,
        }
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
        let packages = self.resolve(update, progress)?;
        let partial = path.with_extension(std::process::id().to_string());
        fs::write(&partial, to_text(&packages)).map_err(ImagesError::io("write", &partial))?;
        fs::rename(&partial, &path).map_err(ImagesError::io("rename", &partial))?;
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
            progress.step("fetching Debian's package lists");
            self.fetch_lists()?;
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
    fn fetch_lists(&mut self) -> Result<()> {
        self.own_lists = true;
        let root = self.own_root();
        for directory in ["lists/partial", "archives/partial"] {
            let directory = root.join(directory);
            fs::create_dir_all(&directory).map_err(ImagesError::io("create", &directory))?;
        }
        run(self.command("apt-get").args(["-qq", "update"])).map(drop)
    }

    fn own_root(&self) -> PathBuf {
        self.cache.root().join("apt")
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
        let printed = run(command.args(["show", "--no-all-versions"]).args(names))?;
        let found = parse_stanzas(&printed.stdout);
        names
            .iter()
            .map(|name| {
                found
                    .iter()
                    .find(|package| package.name == *name)
                    .cloned()
                    .ok_or_else(|| {
                        ImagesError::Other(format!(
                            "Debian's package lists have no {name}; check /etc/apt/sources.list"
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
                progress.step(&format!("downloading {} {}", package.name, package.version));
                if self.download(package, directory).is_err() {
                    self.fetch_lists()?;
                    self.download(package, directory)?;
                }
                Ok(())
            })?;
        Ok(entry.join("deb"))
    }

    fn download(&self, package: &Package, directory: &Path) -> Result<()> {
        let what = format!("{}={}", package.name, package.version);
        let mut command = self.command("apt-get");
        run(command
            .args(["-qq", "download", &what])
            .current_dir(directory))?;
        let file = fs::read_dir(directory)
            .map_err(ImagesError::io("read", directory))?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .ok_or_else(|| ImagesError::Other(format!("apt-get left no file for {what}")))?;
        let digest = KeyBuilder::file_digest(&file)?;
        if digest != package.sha256 {
            fs::remove_file(&file).map_err(ImagesError::io("remove", &file))?;
            return Err(ImagesError::Other(format!(
                "{what} is not the file that the package lists describe; run `vtmem images build --update`"
            )));
        }
        fs::rename(&file, directory.join("deb")).map_err(ImagesError::io("rename", &file))
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
    let not_installed = |packages: Vec<String>| {
        let install = format!(
            "apt-get install --no-install-recommends {}",
            packages.join(" ")
        );
        let command = format!("sudo apt-get update && sudo {install}");
        ImagesError::MissingPackages { packages, command }
    };
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

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    // A process's own directory in /proc belongs to its effective user.
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
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
