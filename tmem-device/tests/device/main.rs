//! The device as a driver meets it: through rings in guest memory.

mod credit;
mod doorbells;
mod driver;
mod evictions;
mod hostile_guest;
mod hostile_rings;
mod operations;
