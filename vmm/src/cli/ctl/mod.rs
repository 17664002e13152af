//! `vtmem ctl`: the control socket from a command line.

mod client;
mod screen;
mod tables;
mod watch;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use axum::http::Method;
use serde::Serialize;
use serde_json::{Value, json};

use super::CliError;
use crate::api::actions::{Action, ActionRequest};
use crate::api::quantity::{Bytes, Memory};
use crate::disk::DiskOptions;
use client::Client;

/// Options of `vtmem ctl`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Exit status: 0 when it was done; 2 when it was not, with the reason on standard error.

Examples:
  vtmem ctl --api-socket vm.sock boot-source --kernel vmlinuz --initrd initrd
  vtmem ctl --api-socket vm.sock set size=1G min=128M
  vtmem ctl --api-socket vm.sock start
  vtmem ctl --api-socket vm.sock freeze
  vtmem ctl --api-socket vm.sock watch")]
pub struct CtlArgs {
    /// The socket that `vtmem run --api-socket` serves.
    #[arg(long, value_name = "PATH", env = "VTMEM_API_SOCKET")]
    api_socket: PathBuf,
    /// Print JSON as the API has it, instead of a table.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand, Debug)]
enum Verb {
    /// How far the machine is, and what it is made of.
    Vm,
    /// Set memory and vCPUs, before the start.
    Machine {
        /// Guest memory, such as 512M; whole MiB.
        #[arg(long, value_name = "SIZE", value_parser = super::parse::bytes)]
        mem: u64,
        /// Number of vCPUs.
        #[arg(long, value_name = "N", default_value_t = 1)]
        cpus: u8,
    },
    /// Set what boots, before the start.
    BootSource {
        /// Kernel.
        #[arg(long, value_name = "PATH")]
        kernel: PathBuf,
        /// Initial root file system.
        #[arg(long, value_name = "PATH")]
        initrd: Option<PathBuf>,
        /// Kernel command line.
        #[arg(long, value_name = "TEXT", default_value = "console=ttyS0 quiet")]
        cmdline: String,
    },
    /// Add a disk, or change the one of this id, before the start.
    Disk {
        /// Its name: a-z, 0-9 and -.
        id: String,
        /// `path=FILE[,cache=none|writethrough|writeback][,readonly]`.
        options: DiskOptions,
    },
    /// Start the machine.
    Start,
    /// Stop its vCPUs, and have its devices hold still.
    Pause,
    /// Go on.
    Resume,
    /// End it at once.
    Shutdown,
    /// Start it anew.
    Reset,
    /// What tmem is and holds.
    Tmem,
    /// Change tmem; before the start, give the machine tmem: `KEY=VALUE`, of size, min (of the governor; `none` ends it),
    /// admission, compression (on or off), weight.
    Set {
        /// What to set.
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = setting)]
        settings: Vec<(String, String)>,
    },
    /// Refuse all puts.
    Freeze,
    /// Take puts again.
    Thaw,
    /// Drop pages: `ephemeral`, or the pool of this id.
    Flush {
        /// What.
        target: String,
    },
    /// Print events as they come.
    Events,
    /// Print metrics.
    Metrics,
    /// Show figures as they change, until Ctrl-C.
    Watch,
}

fn setting(text: &str) -> Result<(String, String), String> {
    const KNOWN: [&str; 5] = ["size", "min", "admission", "compression", "weight"];
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    if KNOWN.contains(&key) {
        return Ok((key.to_owned(), value.to_owned()));
    }
    let hint = crate::hint::hint(key, &KNOWN);
    Err(format!(
        "unknown key '{key}'{hint}; known are {}",
        KNOWN.join(", ")
    ))
}

/// Runs `vtmem ctl`.
///
/// # Errors
/// Nobody answers, or what the API says.
pub fn execute(args: CtlArgs) -> Result<ExitCode, CliError> {
    let client = Client::new(&args.api_socket)?;
    let put = |resource: &str, body: Value| client.request(Method::PUT, resource, Some(&body));
    let act = |action: Action| {
        let body = serde_json::to_value(ActionRequest { action })?;
        put("/actions", body)
    };
    let patch = |body: Value| client.request(Method::PATCH, "/tmem", Some(&body));
    let answer = match args.verb {
        Verb::Vm => client.get("/vm"),
        Verb::Machine { mem, cpus } => {
            put("/machine", json!({"memory": Memory(mem), "cpus": cpus}))
        }
        Verb::BootSource {
            kernel,
            initrd,
            cmdline,
        } => put(
            "/boot-source",
            json!({"kernel": kernel, "initrd": initrd, "cmdline": cmdline}),
        ),
        Verb::Disk { id, options } => put(
            &format!("/disks/{id}"),
            json!({"path": options.path, "cache": options.cache, "readonly": options.readonly}),
        ),
        Verb::Start => act(Action::Start),
        Verb::Pause => act(Action::Pause),
        Verb::Resume => act(Action::Resume),
        Verb::Shutdown => act(Action::Shutdown),
        Verb::Reset => act(Action::Reset),
        Verb::Tmem => client.get("/tmem"),
        Verb::Set { settings } => set(&client, &settings),
        Verb::Freeze => patch(json!({"frozen": true})),
        Verb::Thaw => patch(json!({"frozen": false})),
        Verb::Flush { target } => {
            let target = match target.parse::<u32>() {
                Ok(pool) => json!(pool),
                Err(_) => json!(target),
            };
            let body = json!({"target": target});
            client.request(Method::POST, "/tmem/flush", Some(&body))
        }
        Verb::Events => {
            let mut out = std::io::stdout();
            return client
                .follow("/tmem/events", |bytes| {
                    // Who closed standard output hears no more.
                    let _ = out.write_all(bytes).and_then(|()| out.flush());
                })
                .map(|()| ExitCode::SUCCESS);
        }
        Verb::Metrics => client.get("/metrics"),
        Verb::Watch => return watch::run(&client, &args.api_socket).map(|()| ExitCode::SUCCESS),
    }?;
    let text = match serde_json::from_str::<Value>(&answer) {
        Ok(value) if !args.json => tables::of(&value),
        _ => answer,
    };
    print!("{text}");
    if !text.is_empty() && !text.ends_with('\n') {
        println!();
    }
    Ok(ExitCode::SUCCESS)
}

/// Changes tmem, or gives a machine that waits tmem that it did not have.
fn set(client: &Client, settings: &[(String, String)]) -> Result<String, CliError> {
    let mut body = serde_json::Map::new();
    for (key, value) in settings {
        let bytes = || super::parse::bytes(value).map(Bytes).and_then(to_json);
        let (key, value) = match (key.as_str(), value.as_str()) {
            ("size", _) => ("size", bytes()?),
            ("min", "none") => ("governor", Value::Null),
            ("min", _) => ("governor", json!({"minimum": bytes()?})),
            ("compression", "on" | "off") => ("compression", json!(value == "on")),
            ("compression", _) => return Err("compression is on or off".into()),
            ("weight", _) => {
                let weight: u32 = value.parse().map_err(|_| "a weight is a number")?;
                ("share", json!({"weight": weight}))
            }
            (key, value) => (key, json!(value)),
        };
        body.insert(key.to_owned(), value);
    }
    let vm: Value = serde_json::from_str(&client.get("/vm")?)?;
    if vm["state"] == "waiting" && vm["config"]["tmem"].is_null() {
        return client.request(Method::PUT, "/tmem", Some(&body));
    }
    client.request(Method::PATCH, "/tmem", Some(&body))
}

fn to_json(value: impl Serialize) -> Result<Value, String> {
    serde_json::to_value(value).map_err(|error| error.to_string())
}
