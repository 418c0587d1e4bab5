/* Preloaded into a process, it kills it in the middle of its n-th write to one file.
   TORN_FILE: how the file's path ends. TORN_AT: the number of the write. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

typedef ssize_t (*pwrite_fn)(int, const void *, size_t, off_t);

static int is_the_file(int fd) {
    const char *end = getenv("TORN_FILE");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (end == NULL || length < (ssize_t)strlen(end)) return 0;
    path[length] = '\0';
    return strcmp(path + length - strlen(end), end) == 0;
}

static ssize_t torn(const char *name, int fd, const void *data, size_t size, off_t at) {
    static int writes = 0;
    pwrite_fn real = (pwrite_fn)dlsym(RTLD_NEXT, name);
    if (is_the_file(fd) && ++writes == atoi(getenv("TORN_AT"))) {
        real(fd, data, size / 2, at);
        raise(SIGKILL);
    }
    return real(fd, data, size, at);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    return torn("pwrite", fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t at) {
    return torn("pwrite64", fd, data, size, at);
}
