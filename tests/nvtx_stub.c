/* nvtx_stub.c - a listener for NVTX: counts the ranges a program pushes and pops, and writes them
 * to $NVTX_STUB_OUT when it ends. Loaded through NVTX_INJECTION64_PATH. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nvtx3/nvToolsExt.h>

static long pushed, popped;
static char names[1 << 16];

static int push(const char *message) {
    size_t n = strlen(names);
    if (n + strlen(message) + 2 < sizeof names) sprintf(names + n, "%s\n", message);
    return (int)(pushed++ - popped);
}
static int pop(void) { return (int)(pushed - ++popped); }

static void report(void) {
    const char *path = getenv("NVTX_STUB_OUT");
    FILE *out = path ? fopen(path, "a") : NULL;
    if (!out) return;
    fprintf(out, "pushed %ld popped %ld\n%s", pushed, popped, names);
    fclose(out);
}

NVTX_DYNAMIC_EXPORT int NVTX_API InitializeInjectionNvtx2(NvtxGetExportTableFunc_t table);
NVTX_DYNAMIC_EXPORT int NVTX_API InitializeInjectionNvtx2(NvtxGetExportTableFunc_t table) {
    const NvtxExportTableCallbacks *callbacks = table(NVTX_ETID_CALLBACKS);
    NvtxFunctionTable entries = NULL;
    unsigned count = 0;
    if (!callbacks || !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &entries, &count))
        return 0;
    if (count <= NVTX_CBID_CORE_RangePop) return 0;
    *entries[NVTX_CBID_CORE_RangePushA] = (NvtxFunctionPointer)push;
    *entries[NVTX_CBID_CORE_RangePop] = (NvtxFunctionPointer)pop;
    atexit(report);
    return 1;
}
