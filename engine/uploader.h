/* uploader.h - much host memory to a device, at the pace of the slower of the two: some threads
 * copy into pinned memory (what is mapped from a file is read by that) while the piece before is on
 * its way. */
#ifndef FASTINFER_UPLOADER_H
#define FASTINFER_UPLOADER_H

#include "runtime/device.h"

struct uploader;
enum status uploader_open(struct device *device, struct uploader **out);
void uploader_close(struct uploader *uploader); /* NULL is fine; waits for what is on its way */

/* `bytes` of the host to `to`. On return they have been read; what is enqueued on the device's
 * stream from then on finds them there. */
enum status uploader_put(struct uploader *uploader, void *to, const void *from, size_t bytes);

#endif
