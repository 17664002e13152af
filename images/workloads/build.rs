//! The program goes into the guest's memory: without symbols it takes a tenth of it.

fn main() {
    println!("cargo::rustc-link-arg-bins=-s");
    println!("cargo::rerun-if-changed=build.rs");
}
