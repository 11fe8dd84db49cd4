/* library_guest.c - libfastinfer.so as a guest in a CUDA program: on its streams, in its context,
 * told by a driver that takes notes. Run by test_library.sh. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "include/fastinfer.h"
#include "tests/cuda_stub.h"

static int number;
static void is(const char *what, bool so) {
    printf("%sok %d - a guest on a GPU: %s\n", so ? "" : "not ", ++number, what);
    if (!so) printf("# %s\n", fastinfer_error());
}

static void *at(uintptr_t address) { return (void *)address; }

int main(int argc, char **argv) {
    struct fastinfer_device *device;
    struct fastinfer_kernel *kernel;
    unsetenv("CUDA_MODULE_LOADING");
    if (argc != 2 || fastinfer_device_open("cuda:0", argv[1], &device)) {
        is("the device opens", false);
        return 1;
    }
    is("the current context is the program's own again", stub.context == STUB_GUEST);
    is("nobody asked for eager loading", !stub.eager && !getenv("CUDA_MODULE_LOADING"));
    is("points are the device's", strstr(fastinfer_device_points(device), "tesla-t4.json"));
    int64_t rows = 4096;
    void *pointers[] = {at(0x1000), at(0x2000), at(0x3000)};
    double reals[] = {0.25};
    is("a kernel opens",
       !fastinfer_kernel_open(device, "rmsnorm", FASTINFER_FP16, "hidden=3072",
                              "block=256,blocks_per_sm=0,rows_per_block=1", &kernel));
    is("it is launched",
       !fastinfer_kernel_launch(kernel, pointers, &rows, reals, NULL, 0, at(0x77)));
    is("once, by its name", stub.launches == 1 && !strcmp(stub.entry, "rmsnorm"));
    is("on the given stream", stub.stream == at(0x77));
    is("in the primary context", stub.in_primary && stub.context == STUB_GUEST);
    is("with the fixed values, a block a row", stub.block == 256 && stub.grid == 4096);
    is("with its parameters", stub.param[0] == 0x1000 && stub.param[1] == 0x2000 &&
                                  stub.param[2] == 0x3000 && stub.param[3] == 4096 &&
                                  stub.eps == 0.25f);
    rows = 4000;
    is("again with other rows, on the default stream",
       !fastinfer_kernel_launch(kernel, pointers, &rows, NULL, NULL, 0, NULL) &&
           stub.launches == 2 && !stub.stream && stub.grid == 4000 && stub.eps == 1e-5f);
    is("one module was loaded", stub.loads == 1);
    is("nothing was allocated or waited for", !stub.waits);
    stub.fail = CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    is("a failed launch is told",
       fastinfer_kernel_launch(kernel, pointers, &rows, NULL, NULL, 0, NULL) == FASTINFER_LAUNCH);
    is("and leaves the program's context", stub.context == STUB_GUEST);
    fastinfer_kernel_close(kernel);
    is("closing unloads", stub.unloads == 1 && stub.context == STUB_GUEST);
    fastinfer_device_close(device);
    is("and leaves the program's context, too", stub.context == STUB_GUEST);
    return 0;
}
