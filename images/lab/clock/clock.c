/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Stops the clock by which QEMU decides how large its software TLB is. Preloaded into the emulator under the virtual clock.
 *
 * QEMU 7.2 halves a TLB that was little used for 100 ms of this host's time (tlb_mmu_resize_locked() in accel/tcg/cputlb.c),
 * and asks gettimeofday() for that. What is in the TLB then depends on how busy this host is, and that can be seen from
 * inside: Linux clears accessed bits without flushing the TLB, so whether a page counts as used depends on whether its entry is
 * still there. With a clock that stands still the TLB only grows, as the emulated instructions demand. Everything else in QEMU
 * that waits or measures uses other clocks.
 *
 * Without headers and libraries: all it takes to build is a compiler.
 */
struct timeval {
	long tv_sec;
	long tv_usec;
};

int gettimeofday(struct timeval *now, void *zone);

int gettimeofday(struct timeval *now, void *zone)
{
	(void)zone;
	now->tv_sec = 1767225600; /* 2026-01-01, as the lab's clock begins */
	now->tv_usec = 0;
	return 0;
}
