//! `vtmem compare`: the same work under four disk settings, and what it cost.
