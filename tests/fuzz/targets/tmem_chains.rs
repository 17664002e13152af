#![no_main]

libfuzzer_sys::fuzz_target!(
    |input: vtmem_fuzz::tmem_chains::Input| vtmem_fuzz::tmem_chains::run(input)
);
