/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Closes the two ways by which this host's time leaks into QEMU's virtual time. Preloaded into the emulator under the virtual
 * clock.
 *
 * 1. QEMU 7.2 shrinks a software TLB that was little used for 100 ms of this host's time (tlb_mmu_resize_locked() in
 * accel/tcg/cputlb.c), and asks gettimeofday() for that, once a flush. What is in the TLB then depends on how busy this host is,
 * and that can be seen from inside: Linux clears accessed bits without flushing the TLB, so whether a page counts as used
 * depends on whether its entry is still there. Here each question takes a millisecond of a clock that each thread has for
 * itself. It must go on: a TLB that only grows, to what the largest piece of work needed, makes each of the hundreds of
 * thousands of flushes by VMRUN and #VMEXIT clear megabytes.
 *
 * 2. When the emulated CPU halts, the main loop moves the virtual clock to the next timer (icount_start_warp_timer() in
 * softmmu/icount.c). A CPU counts as halted from the instruction on that halts it; what it executed since the clock was
 * last read is added only when its thread comes back from the emulation. A main loop that happens to be awake in between
 * moves the clock too far by so many nanoseconds. So the main loop, when it has slept, has to wait for the CPU's thread to
 * sleep: it does nothing sooner than that, since the CPU's thread runs the timers that are due while it is awake.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* The longest that the main loop waits, for it has a few other things to do: to end on a signal, to complete disk requests. */
static const struct timespec PATIENCE = { .tv_nsec = 200 * 1000 * 1000 };

typedef int cond_wait(pthread_cond_t *, pthread_mutex_t *);
typedef int mutex_lock(pthread_mutex_t *);

static pthread_t main_thread;

/* QEMU's big lock: the one with which the CPU's thread goes to sleep. */
static _Atomic(pthread_mutex_t *) big_lock;
/* The CPU's thread sleeps, or will as soon as it can be seen: whoever gets the lock finds it asleep. */
static _Atomic int asleep = 1;

/* The C library's own; the version, because there are older ones. Other libraries lock before this one is set up. */
static void *real(_Atomic(void *) *function, const char *name, const char *version)
{
	void *found = atomic_load(function);

	if (!found) {
		found = dlvsym(RTLD_NEXT, name, version);
		atomic_store(function, found);
	}
	return found;
}

__attribute__((constructor)) static void begin(void)
{
	main_thread = pthread_self();
}

int gettimeofday(struct timeval *now, void *zone)
{
	static __thread long milliseconds;

	(void)zone;
	milliseconds++;
	now->tv_sec = 1767225600 + milliseconds / 1000; /* 2026-01-01, as the lab's clock begins */
	now->tv_usec = milliseconds % 1000 * 1000;
	return 0;
}

/* No other thread than the CPU's waits by this function while it holds a lock that the main loop wants. */
int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *lock)
{
	static _Atomic(void *) function;
	cond_wait *real_cond_wait = (cond_wait *)real(&function, "pthread_cond_wait", "GLIBC_2.3.2");
	int result;

	if (pthread_equal(pthread_self(), main_thread))
		return real_cond_wait(condition, lock);
	atomic_store(&big_lock, lock);
	atomic_store(&asleep, 1);
	syscall(SYS_futex, &asleep, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	result = real_cond_wait(condition, lock);
	atomic_store(&asleep, 0);
	return result;
}

int pthread_mutex_lock(pthread_mutex_t *lock)
{
	static _Atomic(void *) function;
	mutex_lock *real_mutex_lock = (mutex_lock *)real(&function, "pthread_mutex_lock", "GLIBC_2.2.5");

	/* Once only: when the patience is at its end, whatever it was that took so long goes on. */
	if (lock == atomic_load(&big_lock) && !atomic_load(&asleep) &&
	    pthread_equal(pthread_self(), main_thread))
		syscall(SYS_futex, &asleep, FUTEX_WAIT_PRIVATE, 0, &PATIENCE, NULL, 0);
	return real_mutex_lock(lock);
}
