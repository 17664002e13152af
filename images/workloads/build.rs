//! The program goes into the guest's memory: symbols would make it four times as long.

fn main() {
    println!("cargo::rustc-link-arg-bins=-s");
    println!("cargo::rerun-if-changed=build.rs");
}
