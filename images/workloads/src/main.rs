//! `vtmem-work`: the workload programs that run inside the guest.

fn main() {
    println!("{}", vtmem_workloads::source::PATTERN);
}
