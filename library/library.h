/* library.h - what the files of libfastinfer share.
 *
 * One lock for the whole library: the CPU device runs one launch at a time in a process, and what
 * the runtime keeps (compilers found, the driver's functions) is filled on first use without one.
 */
#ifndef LIBRARY_LIBRARY_H
#define LIBRARY_LIBRARY_H

#include <pthread.h>

#include "include/fastinfer.h"
#include "runtime/config.h"

struct fastinfer_device {
    struct device *device;
    struct config *config;
    int users; /* the opener and every open kernel */
};

extern pthread_mutex_t library_lock;

enum fastinfer_code library_code(enum status status);
/* Lets go of a device, which is closed with its last user. The lock is held. */
void library_device_release(struct fastinfer_device *device);

#endif
