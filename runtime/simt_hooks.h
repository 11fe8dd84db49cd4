/* simt_hooks.h - what the compiler calls at each access under -fsanitize=thread, in code compiled
 * as CPU_COUNTED: kept within that code, so that no other library meets these names.
 */
#ifndef FASTINFER_SIMT_HOOKS_H
#define FASTINFER_SIMT_HOOKS_H

#include <stddef.h>

extern "C" void simt_trace_touch(const void *address, size_t bytes);

#define SIMT_HOOK extern "C" __attribute__((used, no_sanitize_thread, visibility("hidden")))
#define SIMT_ACCESS(bytes)                                                                         \
    SIMT_HOOK void __tsan_read##bytes(void *p) { simt_trace_touch(p, bytes); }                     \
    SIMT_HOOK void __tsan_write##bytes(void *p) { simt_trace_touch(p, bytes); }                    \
    SIMT_HOOK void __tsan_unaligned_read##bytes(void *p) { simt_trace_touch(p, bytes); }           \
    SIMT_HOOK void __tsan_unaligned_write##bytes(void *p) { simt_trace_touch(p, bytes); }          \
    SIMT_HOOK void __tsan_volatile_read##bytes(void *p) { simt_trace_touch(p, bytes); }            \
    SIMT_HOOK void __tsan_volatile_write##bytes(void *p) { simt_trace_touch(p, bytes); }
SIMT_ACCESS(1)
SIMT_ACCESS(2)
SIMT_ACCESS(4)
SIMT_ACCESS(8)
SIMT_ACCESS(16)
SIMT_HOOK void __tsan_read_range(void *p, unsigned long bytes) { simt_trace_touch(p, bytes); }
SIMT_HOOK void __tsan_write_range(void *p, unsigned long bytes) { simt_trace_touch(p, bytes); }
SIMT_HOOK void __tsan_vptr_update(void **, void *) {}
SIMT_HOOK void __tsan_vptr_read(void **) {}
SIMT_HOOK void __tsan_func_entry(void *) {}
SIMT_HOOK void __tsan_func_exit(void) {}
SIMT_HOOK void __tsan_init(void) {}
SIMT_HOOK void *__tsan_memcpy(void *to, const void *from, unsigned long bytes) {
    simt_trace_touch(from, bytes), simt_trace_touch(to, bytes);
    return __builtin_memcpy(to, from, bytes);
}
SIMT_HOOK void *__tsan_memmove(void *to, const void *from, unsigned long bytes) {
    simt_trace_touch(from, bytes), simt_trace_touch(to, bytes);
    return __builtin_memmove(to, from, bytes);
}
SIMT_HOOK void *__tsan_memset(void *to, int byte, unsigned long bytes) {
    simt_trace_touch(to, bytes);
    return __builtin_memset(to, byte, bytes);
}

#endif
