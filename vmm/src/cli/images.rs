//! `vtmem images`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use vtmem_images::{DataDiskSpec, Images, KernelSource, Options, Progress, TerminalProgress};

use super::CliError;
use crate::torture::mutations;

/// A kernel other than Debian's, and the program that its guests run; the same options for every subcommand.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ImageSource {
    /// Guest kernel (vmlinux or bzImage) instead of Debian's cloud kernel.
    #[arg(long, value_name = "PATH", requires = "headers")]
    guest_kernel: Option<PathBuf>,
    /// Headers to build the driver against: what /lib/modules/RELEASE/build of that kernel leads to.
    #[arg(long, value_name = "DIR", requires = "guest_kernel")]
    headers: Option<PathBuf>,
    /// Modules of that kernel: its lib/modules/RELEASE. Not needed when virtio is built in.
    #[arg(long, value_name = "DIR", requires = "guest_kernel")]
    modules: Option<PathBuf>,
    /// The vtmem-work program [default: the one beside vtmem].
    #[arg(long, value_name = "PATH")]
    work: Option<PathBuf>,
}

impl ImageSource {
    /// What the image builder is to use.
    pub fn options(&self) -> Options {
        let kernel = match (&self.guest_kernel, &self.headers) {
            (Some(kernel), Some(headers)) => KernelSource::Custom {
                kernel: kernel.clone(),
                headers: headers.clone(),
                modules: self.modules.clone(),
            },
            _ => KernelSource::Debian,
        };
        Options {
            kernel,
            work: self.work.clone(),
            ..Options::default()
        }
    }
}

/// Options of `vtmem images`.
#[derive(clap::Args, Debug)]
pub struct ImagesArgs {
    #[command(subcommand)]
    command: Option<ImagesCommand>,
}

#[derive(clap::Subcommand, Debug)]
enum ImagesCommand {
    /// Build what is not in the cache yet, and print where it is [default].
    Build(BuildArgs),
    /// List what is in the cache.
    List,
    /// Remove everything from the cache.
    Clean,
}

#[derive(clap::Args, Debug, Default)]
struct BuildArgs {
    #[command(flatten)]
    source: ImageSource,
    /// Take the newest Debian packages instead of those of the last build.
    #[arg(long)]
    update: bool,
    /// Have the guest load this module of its kernel too, once for each.
    #[arg(long = "module", value_name = "NAME")]
    guest_modules: Vec<String>,
    /// Build the driver without one of its precautions.
    #[arg(long, value_name = "NAME", hide = true, value_parser = PossibleValuesParser::new(mutations::all()))]
    mutate: Option<String>,
    /// Also build the data disk for guests with this much memory, in MiB.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(16..=1 << 20))]
    data: Option<u64>,
    /// What the content of the data disk depends on.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs `vtmem images`.
///
/// # Errors
/// Anything that keeps an image from being built.
pub fn execute(args: ImagesArgs) -> Result<ExitCode, CliError> {
    match args.command {
        None => build(&BuildArgs {
            seed: 1,
            ..BuildArgs::default()
        })?,
        Some(ImagesCommand::Build(args)) => build(&args)?,
        Some(ImagesCommand::List) => list()?,
        Some(ImagesCommand::Clean) => {
            let mut images = Images::open(Options::default())?;
            let freed = images.clean()?;
            println!("{} MiB freed in {}", freed >> 20, images.root().display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn build(args: &BuildArgs) -> Result<(), CliError> {
    let mut images = Images::open(Options {
        update: args.update,
        modules: args.guest_modules.clone(),
        mutation: args.mutate.clone(),
        ..args.source.options()
    })?;
    let mut progress = TerminalProgress::new();
    let guest = images.guest(&mut progress)?;
    let lab = images.lab(&mut progress)?;
    let data = match args.data {
        Some(mib) => {
            let spec = DataDiskSpec {
                guest_mem: mib << 20,
                seed: args.seed,
            };
            Some(images.data_disk(&spec, &mut progress)?)
        }
        None => None,
    };
    progress.finish();
    println!("guest kernel  {}", guest.kernel.display());
    println!("guest initrd  {}", guest.initrd.display());
    println!("lab kernel    {}", lab.kernel.display());
    println!("lab initrd    {}", lab.initrd.display());
    if let Some(data) = data {
        println!("data disk     {}", data.path.display());
    }
    Ok(())
}

fn list() -> Result<(), CliError> {
    let images = Images::open(Options::default())?;
    println!("{}", images.root().display());
    for entry in images.list()? {
        let state = if entry.complete {
            ""
        } else {
            "  (incomplete: will be built anew)"
        };
        println!(
            "{:>7.1} MiB  {}{state}",
            entry.bytes as f64 / f64::from(1 << 20),
            entry.name
        );
    }
    Ok(())
}
