#![no_main]

libfuzzer_sys::fuzz_target!(|input: vtmem_fuzz::tmem_operations::Input| {
    vtmem_fuzz::tmem_operations::run(input)
});
