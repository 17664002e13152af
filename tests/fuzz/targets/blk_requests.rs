#![no_main]

libfuzzer_sys::fuzz_target!(
    |input: vtmem_fuzz::blk_requests::Input| vtmem_fuzz::blk_requests::run(input)
);
