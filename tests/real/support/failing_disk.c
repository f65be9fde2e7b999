/* A disk that fails while a process runs. Loaded before libc; `tests/real/disk.rs` builds it and writes
   one letter into the file that FAREPASS_TEST_FAULT names:
     s  every sync fails, EIO
     w  every write fails, EIO
     n  no space: every write fails, ENOSPC
     r  read-only: every write fails, EROFS
     t  torn: every write stores its first half, then fails, EIO
   Regular files only, and never stdout or stderr. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static char fault(int fd) {
    const char *file = getenv("FAREPASS_TEST_FAULT");
    struct stat about;
    char letter = 0;
    if (fd <= 2 || !file || fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) {
        return 0;
    }
    int from = open(file, O_RDONLY | O_CLOEXEC);
    if (from < 0) {
        return 0;
    }
    if (read(from, &letter, 1) != 1) {
        letter = 0;
    }
    close(from);
    return letter;
}

/* 0: write all of it. Otherwise errno is set, and half of it may be written first. */
static int denied(char letter) {
    switch (letter) {
    case 'n': errno = ENOSPC; return 1;
    case 'r': errno = EROFS; return 1;
    case 'w': errno = EIO; return 1;
    default: return 0;
    }
}

#define SYNC(name)                                                          \
    int name(int fd) {                                                      \
        static int (*real)(int);                                            \
        if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, #name);            \
        if (fault(fd) == 's') { errno = EIO; return -1; }                   \
        return real(fd);                                                    \
    }
SYNC(fsync)
SYNC(fdatasync)

#define PWRITE(name, offset)                                                \
    ssize_t name(int fd, const void *from, size_t length, offset at) {      \
        static ssize_t (*real)(int, const void *, size_t, offset);          \
        if (!real) real = (ssize_t (*)(int, const void *, size_t, offset))dlsym(RTLD_NEXT, #name); \
        char letter = fault(fd);                                            \
        if (denied(letter)) return -1;                                      \
        if (letter == 't') { real(fd, from, length / 2, at); errno = EIO; return -1; } \
        return real(fd, from, length, at);                                  \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t write(int fd, const void *from, size_t length) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    char letter = fault(fd);
    if (denied(letter)) return -1;
    if (letter == 't') { real(fd, from, length / 2); errno = EIO; return -1; }
    return real(fd, from, length);
}
