/* test_baseline.c - the PyTorch plugin, on the CPU, against plain double loops.
 *
 * FASTINFER_TORCH names the plugin; without it, or without the file, everything is skipped. */
#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "baselines/baseline.h"

enum { ROWS = 5, WIDTH = 37, Q_HEADS = 6, KV_HEADS = 2, HEAD = 8, POSITIONS = 16, CAPACITY = 12 };
static const double eps = 1e-5;

static const struct baseline *plugin;
static const char *skip_reason;
static uint64_t state;

/* --- data --------------------------------------------------------------------------------------
 */

static float uniform(void) { /* -2..2 */
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)((double)(state >> 11) * 0x1p-53 * 4 - 2);
}

static void fill(float *to, int count) {
    for (int i = 0; i < count; i++) to[i] = uniform();
}

static void close_to(const char *what, const float *got, const double *want, int count) {
    for (int i = 0; i < count; i++)
        if (!(fabs((double)got[i] - want[i]) <= 2e-6 * (1 + fabs(want[i]))))
            fail_msg("%s[%d] is %.9g, want %.9g", what, i, (double)got[i], want[i]);
}

static void same(const char *what, const void *got, const void *want, size_t bytes) {
    if (memcmp(got, want, bytes)) fail_msg("%s was modified", what);
}

/* --- calls -------------------------------------------------------------------------------------
 */

static struct baseline_call call_of(const char *kernel, const char *formula) {
    return (struct baseline_call){.kernel = kernel, .formula = formula, .dtype = "fp32"};
}

static void add_size(struct baseline_call *call, const char *name, int64_t value) {
    call->size_name[call->size_count] = name;
    call->size[call->size_count++] = value;
}

static void add_eps(struct baseline_call *call) {
    call->real_name[call->real_count] = "eps";
    call->real[call->real_count++] = eps;
}

static void add_tensor(struct baseline_call *call, const char *dtype, void *data, int64_t count) {
    call->tensor[call->tensor_count++] = (struct baseline_tensor){data, dtype, count};
}

static void *prepared(const struct baseline_call *call) {
    void *handle = NULL;
    if (plugin->prepare(call, &handle)) fail_msg("%s", plugin->error());
    assert_non_null(handle);
    return handle;
}

static void run(void *handle, int copy_back) {
    if (plugin->run(handle, copy_back)) fail_msg("%s", plugin->error());
}

static void expect_refusal(const struct baseline_call *call, const char *word) {
    void *handle = &handle;
    assert_int_equal(plugin->prepare(call, &handle), -1);
    assert_null(handle);
    if (!strstr(plugin->error(), word)) fail_msg("\"%s\" lacks \"%s\"", plugin->error(), word);
    assert_null(strchr(plugin->error(), '\n'));
}

static bool has_formula(const char *kernel, const char *formula) {
    for (const char *const *f = plugin->formulas(kernel); *f; f++)
        if (!strcmp(*f, formula)) return true;
    return false;
}

/* --- the norms ---------------------------------------------------------------------------------
 */

static void norm_rows(const double *h, const float *weight, double *want) {
    for (int r = 0; r < ROWS; r++) {
        double sum = 0;
        for (int c = 0; c < WIDTH; c++) sum += h[r * WIDTH + c] * h[r * WIDTH + c];
        double scale = 1 / sqrt(sum / WIDTH + eps);
        for (int c = 0; c < WIDTH; c++)
            want[r * WIDTH + c] = h[r * WIDTH + c] * scale * (double)weight[c];
    }
}

static void check_rmsnorm(const char *formula) {
    float y[ROWS * WIDTH], before[ROWS * WIDTH], x[ROWS * WIDTH], weight[WIDTH];
    double h[ROWS * WIDTH], want[ROWS * WIDTH];
    fill(x, ROWS * WIDTH), fill(weight, WIDTH), fill(y, ROWS * WIDTH);
    memcpy(before, y, sizeof y);
    for (int i = 0; i < ROWS * WIDTH; i++) h[i] = (double)x[i];
    norm_rows(h, weight, want);

    struct baseline_call call = call_of("rmsnorm", formula);
    add_size(&call, "rows", ROWS), add_size(&call, "hidden", WIDTH), add_eps(&call);
    add_tensor(&call, "fp32", y, ROWS * WIDTH);
    add_tensor(&call, "fp32", x, ROWS * WIDTH);
    add_tensor(&call, "fp32", weight, WIDTH);
    void *handle = prepared(&call);
    run(handle, 0);
    same("y", y, before, sizeof y);
    run(handle, 1);
    close_to("y", y, want, ROWS * WIDTH);
    plugin->release(handle);
}

static void rmsnorm(void **unused) {
    (void)unused;
    if (skip_reason) skip();
    check_rmsnorm("hf_eager");
    if (has_formula("rmsnorm", "torch_fused")) check_rmsnorm("torch_fused");
}

static void add_rmsnorm(void **unused) {
    (void)unused;
    if (skip_reason) skip();
    float y[ROWS * WIDTH], residual[ROWS * WIDTH], before[ROWS * WIDTH], x[ROWS * WIDTH];
    float weight[WIDTH];
    double h[ROWS * WIDTH], want[ROWS * WIDTH];
    fill(x, ROWS * WIDTH), fill(residual, ROWS * WIDTH), fill(weight, WIDTH);
    memcpy(before, residual, sizeof before);
    for (int i = 0; i < ROWS * WIDTH; i++) h[i] = (double)x[i] + (double)residual[i];
    norm_rows(h, weight, want);

    struct baseline_call call = call_of("add_rmsnorm", "hf_eager");
    add_size(&call, "rows", ROWS), add_size(&call, "hidden", WIDTH), add_eps(&call);
    add_tensor(&call, "fp32", y, ROWS * WIDTH);
    add_tensor(&call, "fp32", residual, ROWS * WIDTH);
    add_tensor(&call, "fp32", x, ROWS * WIDTH);
    add_tensor(&call, "fp32", weight, WIDTH);
    void *handle = prepared(&call);
    run(handle, 0);
    same("residual", residual, before, sizeof before);
    run(handle, 1);
    close_to("y", y, want, ROWS * WIDTH);
    close_to("residual", residual, h, ROWS * WIDTH);
    plugin->release(handle);
}

/* --- swiglu ------------------------------------------------------------------------------------
 */

static void check_swiglu(int packed) {
    float y[ROWS * WIDTH], gate[2 * ROWS * WIDTH], up[ROWS * WIDTH];
    double want[ROWS * WIDTH];
    fill(gate, 2 * ROWS * WIDTH), fill(up, ROWS * WIDTH);
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < WIDTH; c++) {
            int i = r * WIDTH + c;
            double g = (double)(packed ? gate[2 * r * WIDTH + c] : gate[i]);
            double u = (double)(packed ? gate[(2 * r + 1) * WIDTH + c] : up[i]);
            want[i] = g / (1 + exp(-g)) * u;
        }

    struct baseline_call call = call_of("swiglu", "hf_eager");
    add_size(&call, "rows", ROWS), add_size(&call, "width", WIDTH);
    add_size(&call, "packed", packed);
    add_tensor(&call, "fp32", y, ROWS * WIDTH);
    add_tensor(&call, "fp32", gate, (packed ? 2 : 1) * ROWS * WIDTH);
    add_tensor(&call, "fp32", packed ? NULL : up, packed ? 0 : ROWS * WIDTH);
    void *handle = prepared(&call);
    run(handle, 1);
    close_to("y", y, want, ROWS * WIDTH);
    plugin->release(handle);
}

static void swiglu(void **unused) {
    (void)unused;
    if (skip_reason) skip();
    check_swiglu(0);
    check_swiglu(1);
}

/* --- rotary ------------------------------------------------------------------------------------
 */

static int32_t position[ROWS], sequence[ROWS];
static float inv_freq[HEAD / 2], table[POSITIONS * HEAD];

static void make_angles(void) {
    static const int32_t positions[ROWS] = {7, 0, 11, 3, 4};
    memcpy(position, positions, sizeof position);
    for (int i = 0; i < HEAD / 2; i++) inv_freq[i] = (float)pow(100, -2.0 * i / HEAD);
    for (int p = 0; p < POSITIONS; p++)
        for (int i = 0; i < HEAD / 2; i++) {
            double angle = (double)((float)p * inv_freq[i]);
            table[(p * HEAD / 2 + i) * 2] = (float)cos(angle);
            table[(p * HEAD / 2 + i) * 2 + 1] = (float)sin(angle);
        }
}

/* One head of one row. */
static void rotate(const float *x, int at, int adjacent, double *want) {
    for (int i = 0; i < HEAD / 2; i++) {
        int low = adjacent ? 2 * i : i, high = adjacent ? 2 * i + 1 : i + HEAD / 2;
        double c = (double)table[(at * HEAD / 2 + i) * 2];
        double s = (double)table[(at * HEAD / 2 + i) * 2 + 1];
        double a = (double)x[low], b = (double)x[high];
        want[low] = a * c - b * s;
        want[high] = b * c + a * s;
    }
}

static void check_rope(int adjacent) {
    enum { Q = ROWS * Q_HEADS * HEAD, K = ROWS * KV_HEADS * HEAD };
    float q[Q], k[K], q_before[Q], k_before[K];
    double q_want[Q], k_want[K];
    make_angles();
    fill(q, Q), fill(k, K);
    memcpy(q_before, q, sizeof q);
    memcpy(k_before, k, sizeof k);
    for (int r = 0; r < ROWS; r++) {
        for (int h = 0; h < Q_HEADS; h++) {
            int at = (r * Q_HEADS + h) * HEAD;
            rotate(q + at, position[r], adjacent, q_want + at);
        }
        for (int h = 0; h < KV_HEADS; h++) {
            int at = (r * KV_HEADS + h) * HEAD;
            rotate(k + at, position[r], adjacent, k_want + at);
        }
    }

    struct baseline_call call = call_of("rope", "hf_eager");
    add_size(&call, "rows", ROWS), add_size(&call, "q_heads", Q_HEADS);
    add_size(&call, "kv_heads", KV_HEADS), add_size(&call, "head_dim", HEAD);
    add_size(&call, "adjacent", adjacent), add_size(&call, "positions", POSITIONS);
    add_tensor(&call, "fp32", q, Q);
    add_tensor(&call, "fp32", k, K);
    add_tensor(&call, "int32", position, ROWS);
    add_tensor(&call, "fp32", inv_freq, HEAD / 2);
    add_tensor(&call, "fp32", table, POSITIONS * HEAD);
    void *handle = prepared(&call);
    run(handle, 0);
    same("q", q, q_before, sizeof q);
    same("k", k, k_before, sizeof k);
    run(handle, 1);
    close_to("q", q, q_want, Q);
    close_to("k", k, k_want, K);
    plugin->release(handle);
}

static void rope(void **unused) {
    (void)unused;
    if (skip_reason) skip();
    check_rope(0);
    check_rope(1);
}

static void check_append(int adjacent, int sequences) {
    enum { K = ROWS * KV_HEADS * HEAD, MOST_CACHE = 2 * KV_HEADS * CAPACITY * HEAD };
    float k[K], v[K], cache_k[MOST_CACHE], cache_v[MOST_CACHE];
    float k_before[MOST_CACHE], v_before[MOST_CACHE];
    double k_want[MOST_CACHE], v_want[MOST_CACHE];
    int count = sequences * KV_HEADS * CAPACITY * HEAD;
    make_angles();
    if (sequences == 2) position[3] = position[0]; /* the same place in another sequence */
    for (int r = 0; r < ROWS; r++) sequence[r] = r % sequences;
    fill(k, K), fill(v, K), fill(cache_k, count), fill(cache_v, count);
    memcpy(k_before, cache_k, sizeof(float) * (size_t)count);
    memcpy(v_before, cache_v, sizeof(float) * (size_t)count);

    struct baseline_call call = call_of("rope_kv_append", "hf_eager");
    add_size(&call, "rows", ROWS), add_size(&call, "kv_heads", KV_HEADS);
    add_size(&call, "head_dim", HEAD), add_size(&call, "adjacent", adjacent);
    add_size(&call, "positions", POSITIONS), add_size(&call, "sequences", sequences);
    add_size(&call, "capacity", CAPACITY);
    add_tensor(&call, "fp32", k, K);
    add_tensor(&call, "fp32", v, K);
    add_tensor(&call, "int32", position, ROWS);
    add_tensor(&call, "int32", sequence, ROWS);
    add_tensor(&call, "fp32", inv_freq, HEAD / 2);
    add_tensor(&call, "fp32", table, POSITIONS * HEAD);
    add_tensor(&call, "fp32", cache_k, count);
    add_tensor(&call, "fp32", cache_v, count);
    void *handle = prepared(&call);
    same("cache_k, by prepare()", cache_k, k_before, sizeof(float) * (size_t)count);
    same("cache_v, by prepare()", cache_v, v_before, sizeof(float) * (size_t)count);

    for (int copy_back = 0; copy_back < 2; copy_back++) {
        if (copy_back) position[1] = 9; /* a checking run sees the buffers as they are then */
        for (int i = 0; i < count; i++) {
            k_want[i] = (double)cache_k[i];
            v_want[i] = (double)cache_v[i];
        }
        for (int r = 0; r < ROWS; r++)
            for (int h = 0; h < KV_HEADS; h++) {
                int from = (r * KV_HEADS + h) * HEAD;
                int to = ((sequence[r] * KV_HEADS + h) * CAPACITY + position[r]) * HEAD;
                rotate(k + from, position[r], adjacent, k_want + to);
                for (int d = 0; d < HEAD; d++) v_want[to + d] = (double)v[from + d];
            }
        run(handle, copy_back);
        close_to("cache_k", cache_k, k_want, count);
        close_to("cache_v", cache_v, v_want, count);
    }
    plugin->release(handle);
}

static void rope_kv_append(void **unused) {
    (void)unused;
    if (skip_reason) skip();
    for (int adjacent = 0; adjacent < 2; adjacent++)
        for (int sequences = 1; sequences <= 2; sequences++) check_append(adjacent, sequences);
}

/* --- stream ------------------------------------------------------------------------------------
 */

static void stream(void **unused) {
    (void)unused;
    if (skip_reason) skip();
    uint8_t from[100], to[100] = {0};
    for (int i = 0; i < 100; i++) from[i] = (uint8_t)(7 * i);
    struct baseline_call call = call_of("stream", "torch_copy");
    add_size(&call, "read_bytes", 100), add_size(&call, "write_bytes", 100);
    add_tensor(&call, "uint8", to, 100);
    add_tensor(&call, "uint8", from, 100);
    uint8_t sum[16] = {0}, untouched[16] = {0};
    for (int with_sum = 0; with_sum < 2; with_sum++) {
        if (with_sum) add_tensor(&call, "uint8", sum, 16);
        memset(to, 0, sizeof to);
        void *handle = prepared(&call);
        run(handle, 1);
        assert_memory_equal(to, from, 100);
        same("sum", sum, untouched, sizeof sum);
        plugin->release(handle);
    }

    call.size[1] = 50;
    call.tensor[0].elements = 50;
    expect_refusal(&call, "reads as much as it writes");
}

/* --- what is refused, what is promised ------------------------------------------------------- */

static void refusals(void **unused) {
    (void)unused;
    if (skip_reason) skip();
    float y[ROWS * WIDTH], x[ROWS * WIDTH] = {0}, weight[WIDTH] = {0};
    struct baseline_call good = call_of("rmsnorm", "hf_eager");
    add_size(&good, "rows", ROWS), add_size(&good, "hidden", WIDTH), add_eps(&good);
    add_tensor(&good, "fp32", y, ROWS * WIDTH);
    add_tensor(&good, "fp32", x, ROWS * WIDTH);
    add_tensor(&good, "fp32", weight, WIDTH);

    struct baseline_call bad = good;
    bad.kernel = "rmsnrom";
    expect_refusal(&bad, "rmsnrom");
    assert_null(*plugin->formulas("rmsnrom"));
    bad = good, bad.formula = "torch_wishful";
    expect_refusal(&bad, "torch_wishful");
    bad = good, bad.dtype = "fp17";
    expect_refusal(&bad, "fp17");
    bad = good, bad.size[0] = 0;
    expect_refusal(&bad, "rows is 0");
    bad = good, bad.size[1] = WIDTH + 1;
    expect_refusal(&bad, "elements");
    bad = good, bad.size[0] = INT64_MAX;
    expect_refusal(&bad, "too large");
    bad = good, bad.size_count = 1;
    expect_refusal(&bad, "hidden is missing");
    bad = good, bad.real_count = 0;
    expect_refusal(&bad, "eps is missing");
    bad = good, bad.tensor_count = 2;
    expect_refusal(&bad, "2 buffers, expected 3");
    bad = good, bad.tensor[1].dtype = "int32";
    expect_refusal(&bad, "is int32");
    bad = good, bad.tensor[1].data = NULL;
    expect_refusal(&bad, "null pointer");
}

static void halves(void **unused) { /* either it works, or it says in a line that it does not */
    (void)unused;
    if (skip_reason) skip();
    static const char *const dtypes[] = {"fp16", "bf16"};
    for (int d = 0; d < 2; d++) {
        uint16_t y[ROWS * WIDTH] = {0}, x[ROWS * WIDTH] = {0}, weight[WIDTH] = {0};
        struct baseline_call call = call_of("rmsnorm", "hf_eager");
        call.dtype = dtypes[d];
        add_size(&call, "rows", ROWS), add_size(&call, "hidden", WIDTH), add_eps(&call);
        add_tensor(&call, dtypes[d], y, ROWS * WIDTH);
        add_tensor(&call, dtypes[d], x, ROWS * WIDTH);
        add_tensor(&call, dtypes[d], weight, WIDTH);
        void *handle = NULL;
        if (plugin->prepare(&call, &handle)) {
            print_message("%s\n", plugin->error());
            assert_null(strchr(plugin->error(), '\n'));
            assert_non_null(strstr(plugin->error(), "rmsnorm, hf_eager"));
        } else {
            run(handle, 1);
            plugin->release(handle);
        }
    }
}

static void bounds(void **unused) {
    (void)unused;
    if (skip_reason) skip();
    static const char *const kernels[] = {"rmsnorm", "add_rmsnorm",    "swiglu",
                                          "rope",    "rope_kv_append", "stream"};
    for (int i = 0; i < 6; i++) {
        assert_non_null(*plugin->formulas(kernels[i]));
        for (const char *const *f = plugin->formulas(kernels[i]); *f; f++) {
            double half[2], single[2];
            const char *reason = NULL;
            assert_int_equal(plugin->bound(kernels[i], *f, "fp16", half, half + 1, &reason), 0);
            assert_true(reason && strlen(reason) > 10);
            assert_int_equal(plugin->bound(kernels[i], *f, "fp32", single, single + 1, &reason), 0);
            assert_true(half[0] <= 5 * 0x1p-11 && half[1] <= 5 * 0x1p-11);
            assert_true(single[0] <= half[0] && single[1] <= half[1]);
        }
    }
    double relative, absolute;
    const char *reason;
    assert_int_equal(plugin->bound("gemm", "hf_eager", "fp16", &relative, &absolute, &reason), -1);
    assert_non_null(strstr(plugin->error(), "gemm"));
}

static void describes(void **unused) {
    (void)unused;
    if (skip_reason) skip();
    assert_int_equal(plugin->version, BASELINE_VERSION);
    assert_true(!strncmp(plugin->describe(), "PyTorch ", 8));
    print_message("%s\n", plugin->describe());
}

/* --- */

static int load(void **unused) {
    (void)unused;
    const char *path = getenv("FASTINFER_TORCH");
    if (!path || !*path) {
        skip_reason = "FASTINFER_TORCH names no plugin";
    } else if (access(path, R_OK)) {
        skip_reason = "there is no PyTorch plugin where FASTINFER_TORCH says";
    }
    if (skip_reason) {
        print_message("skipped: %s\n", skip_reason);
        return 0;
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    baseline_entry entry = NULL;
    if (library) *(void **)&entry = dlsym(library, "fastinfer_baseline");
    if (!entry) {
        print_error("%s\n", dlerror());
        return -1;
    }
    plugin = entry();
    if (!plugin->open(-1, NULL)) return 0;
    print_error("%s\n", plugin->error());
    return -1;
}

static int unload(void **unused) {
    (void)unused;
    if (plugin) plugin->close();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(describes), cmocka_unit_test(rmsnorm),  cmocka_unit_test(add_rmsnorm),
        cmocka_unit_test(swiglu),    cmocka_unit_test(rope),     cmocka_unit_test(rope_kv_append),
        cmocka_unit_test(stream),    cmocka_unit_test(refusals), cmocka_unit_test(halves),
        cmocka_unit_test(bounds),
    };
    return cmocka_run_group_tests_name("baseline", tests, load, unload);
}
