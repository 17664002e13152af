#![no_main]

libfuzzer_sys::fuzz_target!(|input: vtmem_fuzz::mmio_registers::Input| {
    vtmem_fuzz::mmio_registers::run(input)
});
