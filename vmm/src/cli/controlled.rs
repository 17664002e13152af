//! Runs machines, one after the other, as the options and the control socket say.

use std::io;
use std::os::unix::net::UnixStream;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use tmem_device::device::EventFault;

use super::CliError;
use crate::accel::{Accel, Clock};
use crate::api::config::VmConfig;
use crate::api::server::{Server, Source};
use crate::api::tmem_settings::TmemSettings;
use crate::api::vm::{Call, Vm};
use crate::boot::BootSource;
use crate::confine::{self, Confinement};
use crate::devices::virtio::tmem::TmemConfig;
use crate::hypervisor::Hypervisor;
use crate::hypervisor::kvm::KvmHypervisor;
use crate::lab::guest::{Control, GuestError};
use crate::lab::{self, LabError};
use crate::machine::exit::Exit;
use crate::machine::running::Machine;
use crate::machine::signals::SignalWatch;
use crate::machine::{self, MachineConfig};

/// Where and how machines run; the same for each of them.
pub struct Host {
    /// On which KVM.
    pub accel: Accel,
    /// The lab's clock.
    pub clock: Clock,
    /// Whether machines are described by ACPI.
    pub acpi: bool,
    /// Where marks are written.
    pub marks: Option<PathBuf>,
    /// What is left to the process once a guest runs.
    pub confinement: Confinement,
    /// For tests.
    pub event_fault: EventFault,
    /// Where what a guest asks of its pool is recorded.
    pub tmem_record: Option<PathBuf>,
    /// For tests.
    pub access_platform: bool,
}

/// What became of a machine.
enum Outcome {
    /// It ended; the exit status says how.
    Ended(u8),
    /// It is to be started again.
    Restart,
}

/// Why there is no outcome.
enum Failure {
    /// The machine could not be started; another configuration may help.
    NotStarted(CliError),
    /// The lab ended.
    Lab(LabError),
}

fn not_started(error: impl Into<CliError>) -> Failure {
    Failure::NotStarted(error.into())
}

/// Runs the machine that `config` describes, or if that boots nothing, the one that the API at `source` is told of.
///
/// # Errors
/// A machine that could not be started, unless the API asked for it; a socket or a thread that this host refuses.
pub fn run(host: &Host, config: VmConfig, source: Option<Source>) -> Result<ExitCode, CliError> {
    let (calls, called) = mpsc::channel();
    let mut waits = config.boot_source.is_none();
    let vm = Vm::new(config, calls.clone());
    let server = match source {
        None => None,
        Some(source) => {
            confine::begin(host.confinement)?;
            Some(Server::start(source, vm.clone())?)
        }
    };
    let ended = loop {
        if waits {
            if let Call::Signal(signal) = wait(&calls, &called)? {
                break Ok(Exit::Signal(signal).status());
            }
        } else {
            vm.starting();
        }
        match run_one(host, &vm, server.as_ref()) {
            Ok(Outcome::Restart) => waits = false,
            Ok(Outcome::Ended(status)) => break Ok(status),
            Err(Failure::NotStarted(error)) if waits => vm.failed(error.to_string()),
            Err(failure) => break Err(failure),
        }
    };
    vm.ended();
    drop(server);
    match ended {
        Ok(status) => Ok(ExitCode::from(status)),
        Err(Failure::NotStarted(error)) => Err(error),
        Err(Failure::Lab(error)) => super::lab::failed(error),
    }
}

/// Waits for a start, or for a signal. A machine that runs has a watch of its own.
fn wait(calls: &Sender<Call>, called: &Receiver<Call>) -> io::Result<Call> {
    let calls = calls.clone();
    let hear = move |signal| {
        // Nobody hears of signals any more when the process is ending.
        let _ = calls.send(Call::Signal(signal));
    };
    let _watch = SignalWatch::start(hear)?;
    called.recv().map_err(io::Error::other)
}

fn run_one(host: &Host, vm: &Arc<Vm>, server: Option<&Server>) -> Result<Outcome, Failure> {
    let described = vm.config();
    let config = machine_config(host, &described, server.is_some()).map_err(not_started)?;
    if host.accel == Accel::Lab {
        return run_in_lab(host, vm, server, &described, &config);
    }
    let run = || {
        let mut started = None;
        let exit = machine::run(
            &config,
            || KvmHypervisor::open().map(|kvm| Box::new(kvm) as Box<dyn Hypervisor>),
            |machine| {
                started = Some(machine.clone());
                vm.started(machine);
            },
        );
        if let Some(machine) = started {
            vm.starting();
            let_go(machine);
        }
        exit.map_err(not_started)
    };
    let exit = match server {
        // The thread is confined for good, and has nothing else to do.
        None => run(),
        // It would be in the way of the next machine.
        Some(_) => thread::scope(|scope| {
            let machine = thread::Builder::new().name("machine".into());
            let machine = machine.spawn_scoped(scope, run).map_err(not_started)?;
            machine.join().unwrap_or_else(|panic| resume_unwind(panic))
        }),
    }?;
    if let Exit::Failed(why) = &exit {
        eprintln!("error: the guest cannot go on: {why}");
    }
    Ok(match exit {
        Exit::Restart => Outcome::Restart,
        exit => Outcome::Ended(exit.status()),
    })
}

/// Drops a machine by the calling thread, whose filter lets it, once who asks it something has been answered. Its successor
/// wants the same memory and the same disks.
fn let_go(mut machine: Arc<Machine>) {
    while let Err(shared) = Arc::try_unwrap(machine) {
        machine = shared;
        thread::sleep(Duration::from_millis(1));
    }
}

fn run_in_lab(
    host: &Host,
    vm: &Arc<Vm>,
    server: Option<&Server>,
    described: &VmConfig,
    config: &MachineConfig,
) -> Result<Outcome, Failure> {
    let mut control = Control::default();
    if described.tmem != config.tmem.as_ref().map(TmemSettings::from) {
        let json = serde_json::to_string(&described.tmem).map_err(not_started)?;
        control.tmem = Some(json);
    }
    if let Some(server) = server {
        let (near, far) = UnixStream::pair().map_err(not_started)?;
        let (vm, forward) = (vm.clone(), server.forward(near).map_err(not_started)?);
        control.line = Some(far);
        control.starting = Some(Box::new(move || vm.in_lab(forward)));
    }
    match lab::guest::run(config, host.clock, control, super::lab::image) {
        Ok(status) => Ok(Outcome::Ended(status)),
        Err(GuestError::Lab(error)) => Err(Failure::Lab(error)),
        Err(error) => Err(not_started(error)),
    }
}

/// A machine as it is described; names of files are this host's.
fn machine_config(host: &Host, vm: &VmConfig, controlled: bool) -> Result<MachineConfig, CliError> {
    let boot = vm.boot_source.as_ref().ok_or("nothing to boot")?;
    Ok(MachineConfig {
        boot: BootSource {
            kernel: boot.kernel.clone(),
            initrd: boot.initrd.clone(),
            cmdline: boot.cmdline.clone(),
        },
        memory: vm.machine.memory.0,
        cpus: vm.machine.cpus,
        disks: vm.disks.iter().map(Into::into).collect(),
        tmem: vm.tmem.as_ref().map(|settings| {
            let mut tmem = TmemConfig::from(settings);
            tmem.device.event_fault = host.event_fault;
            tmem.record = host.tmem_record.clone();
            tmem.access_platform = host.access_platform;
            tmem
        }),
        acpi: host.acpi,
        marks: host.marks.clone(),
        confinement: host.confinement,
        controlled,
    })
}
