// Makes fsync and fdatasync fail while the file that FT_CHAOS_SYNC_FAILS names exists. Loaded into a node by LD_PRELOAD.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int must_fail(void) {
    const char *path = getenv("FT_CHAOS_SYNC_FAILS");
    return path != NULL && access(path, F_OK) == 0;
}

int fsync(int descriptor) {
    static int (*next)(int);
    if (next == NULL) next = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    if (must_fail()) {
        errno = EIO;
        return -1;
    }
    return next(descriptor);
}

int fdatasync(int descriptor) {
    static int (*next)(int);
    if (next == NULL) next = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    if (must_fail()) {
        errno = EIO;
        return -1;
    }
    return next(descriptor);
}
