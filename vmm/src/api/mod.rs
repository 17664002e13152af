//! The control socket: HTTP over a Unix socket, for curl, Prometheus, a browser and `vtmem ctl`.
//!
//! A request flows forward: [`socket`] owns the path, [`server`] the connections and what they may cost, one file each a
//! resource; [`body`] reads what was sent, [`error`] says what was wrong with it. All of them act on a [`vm`]: a configuration
//! that waits for its start, a machine of this process, or one inside the lab, which [`forward`] reaches by a [`channel`]. What has
//! to be waited for is done by [`work`]; files are opened and threads started by neither, but by the thread that runs machines.
//! Schemas are those of `--config` ([`config`]), which [`contradictions`] checks; the document at `/openapi.json` is made of them ([`openapi`]).

pub mod actions;
pub mod body;
pub mod boot_source;
pub mod channel;
pub mod config;
pub mod contradictions;
pub mod disks;
pub mod error;
pub mod events;
pub mod forward;
pub mod machine;
pub mod metrics;
pub mod openapi;
pub mod page;
pub mod port;
pub mod quantity;
pub mod server;
pub mod socket;
pub mod spill_settings;
pub mod stall;
pub mod tmem;
pub mod tmem_settings;
pub mod vm;
pub mod work;

pub use error::Problem;
pub use vm::Vm;
