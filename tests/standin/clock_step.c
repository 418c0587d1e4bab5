/* Stands before the C library's wall clock, for tests: adds what a file says, in nanoseconds.
 *
 * LD_PRELOAD this and name a file of 8 bytes, a native signed 64-bit integer, in CLOCK_STEP_FILE.
 * The file is mapped, so a test steps the clock of a running process by writing to it. The
 * monotonic clocks are left alone, as they are when an operator or a time service sets the clock.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000LL

static volatile const int64_t *step_ns;
static const int64_t nothing = 0;

static int64_t step(void) {
    if (step_ns == NULL) {
        const char *path = getenv("CLOCK_STEP_FILE");
        int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, 8, PROT_READ, MAP_SHARED, file, 0);
        if (file >= 0)
            close(file);
        step_ns = mapped == MAP_FAILED ? &nothing : (const int64_t *)mapped;
    }
    return *step_ns;
}

static int64_t wall_ns(clockid_t clock) {
    struct timespec now;
    syscall(SYS_clock_gettime, clock, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec + step();
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)
        return (int)syscall(SYS_clock_gettime, clock, now);
    int64_t ns = wall_ns(clock);
    now->tv_sec = ns / NS_PER_S;
    now->tv_nsec = ns % NS_PER_S;
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    int64_t ns = wall_ns(CLOCK_REALTIME);
    now->tv_sec = ns / NS_PER_S;
    now->tv_usec = ns % NS_PER_S / 1000;
    return 0;
}

time_t time(time_t *now) {
    time_t seconds = wall_ns(CLOCK_REALTIME) / NS_PER_S;
    if (now != NULL)
        *now = seconds;
    return seconds;
}
