#include "harness/nvtx.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#if defined(__has_include)
#if __has_include(<nvtx3/nvToolsExt.h>)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#include <nvtx3/nvToolsExt.h>
#pragma GCC diagnostic pop
#define HAVE_NVTX 1
#endif
#endif

/* Without a listener the text need not even be written. */
static int listens(void) {
    static int known = -1;
    if (known < 0)
        known = getenv("NVTX_INJECTION64_PATH") || getenv("NVTX_INJECTION32_PATH") ||
                getenv("FASTINFER_NVTX");
    return known;
}

void nvtx_push(const char *format, ...) {
    char text[512];
    va_list list;
    if (!listens()) return;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
#ifdef HAVE_NVTX
    nvtxRangePushA(text);
#endif
}

void nvtx_pop(void) {
#ifdef HAVE_NVTX
    if (listens()) nvtxRangePop();
#endif
}
