#![no_main]

libfuzzer_sys::fuzz_target!(
    |input: vtmem_fuzz::boot_files::Input| vtmem_fuzz::boot_files::run(input)
);
