//! The workloads that `vtmem compare` runs inside its guests, and what they share with the builder of the data disk:
//! the content of every page ([`content`]), the list of files ([`dataset`]), and what a search through the source tree
//! must find ([`source`]). What they report is in [`workload`] and [`driver`].

pub mod content;
pub mod dataset;
pub mod driver;
pub mod mark;
pub mod pressure_lines;
pub mod random;
pub mod source;
pub mod torture_lines;
pub mod workload;
pub mod zipf;
