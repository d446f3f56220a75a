/* A wall clock that jumps by up to a day at every reading; all other clocks are the kernel's.
 * Loaded in front of the C library by tests/suite/engine/faults.rs. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time)
{
    static unsigned long draws = 88172645463325252;
    int result = syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_REALTIME) {
        draws ^= draws << 13;
        draws ^= draws >> 7;
        draws ^= draws << 17;
        time->tv_sec += (long)(draws % 172800) - 86400;
    }
    return result;
}
