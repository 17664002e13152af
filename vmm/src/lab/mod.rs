//! The lab: a throw-away host with hardware virtualization, emulated.
