/* torch_eager.cpp - a baseline plugin: what PyTorch makes of our kernels' formulas, op by op.
 *
 * "hf_eager" is HuggingFace transformers' own arithmetic, in its order and on tensors of its
 * strides, as its Python would call it in eager mode; "torch_fused" is one of torch's own fused
 * ops; "torch_copy" is Tensor.copy_. The C++ side of torch is called directly, so the host time of
 * a call is less than Python's: the comparison leans towards PyTorch.
 *
 * What a model computes once a forward pass, not once a layer (the rotary cos and sin in the
 * model's dtype, the cache positions as int64), is made in prepare() and left out of run(). A run
 * with copy_back makes it anew, so that a check sees the buffers as they are then.
 */
#include "baselines/baseline.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/TensorIndexing.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/stack.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/api/include/torch/version.h>

#define TORCH_AT_LEAST(major, minor)                                                               \
    (TORCH_VERSION_MAJOR > (major) ||                                                              \
     (TORCH_VERSION_MAJOR == (major) && TORCH_VERSION_MINOR >= (minor)))

#if TORCH_AT_LEAST(2, 4)
#define HAVE_RMS_NORM 1
#include <ATen/ops/rms_norm.h>
#else
#define HAVE_RMS_NORM 0
#endif

#ifndef BASELINE_CUDA
#define BASELINE_CUDA 0 /* 1: this torch has CUDA */
#endif
#if BASELINE_CUDA
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#endif

using at::Tensor;

namespace {

std::string last_error;
int device_ordinal = -1;
void *device_stream = nullptr;

/* --- the formulas ------------------------------------------------------------------------------
 */

/* LlamaRMSNorm.forward. */
Tensor hf_rmsnorm(const Tensor &x, const Tensor &weight, double eps) {
    static const int64_t last[] = {-1};
    Tensor wide = x.to(at::kFloat);
    Tensor variance = wide.pow(2).mean(at::IntArrayRef(last), true);
    wide = wide * at::rsqrt(variance + eps);
    return weight * wide.to(x.scalar_type());
}

/* rotate_half of Llama; its interleaved form, as in GLM and GPT-J, where pairs are adjacent. */
Tensor hf_rotate(const Tensor &x, bool adjacent) {
    if (adjacent) {
        Tensor even = x.slice(-1, 0, x.size(-1), 2), odd = x.slice(-1, 1, x.size(-1), 2);
        return at::stack({-odd, even}, -1).flatten(-2);
    }
    int64_t half = x.size(-1) / 2;
    Tensor low = x.slice(-1, 0, half), high = x.slice(-1, half, x.size(-1));
    return at::cat({-high, low}, -1);
}

/* One tensor's line of apply_rotary_pos_emb. x: (1, heads, rows, head_dim), a transposed view of
 * (rows, heads, head_dim), as HuggingFace has it; cos and sin: (1, 1, rows, head_dim). */
Tensor hf_rope(const Tensor &x, const Tensor &cos, const Tensor &sin, bool adjacent) {
    return (x * cos) + (hf_rotate(x, adjacent) * sin);
}

/* (rows, heads, head_dim) <-> (1, heads, rows, head_dim), both views. */
Tensor to_heads(const Tensor &x) { return x.unsqueeze(0).transpose(1, 2); }
Tensor from_heads(const Tensor &x) { return x.transpose(1, 2).squeeze(0); }

/* --- reading a call ----------------------------------------------------------------------------
 */

at::ScalarType scalar_type(const char *dtype) {
    static const struct {
        const char *name;
        at::ScalarType type;
    } types[] = {{"fp16", at::kHalf},
                 {"bf16", at::kBFloat16},
                 {"fp32", at::kFloat},
                 {"int32", at::kInt},
                 {"uint8", at::kByte}};
    for (const auto &entry : types)
        if (dtype && !strcmp(entry.name, dtype)) return entry.type;
    throw std::runtime_error(std::string("the dtype ") + (dtype ? dtype : "(none)") +
                             " is unknown, expected fp16, bf16, fp32, int32 or uint8");
}

struct reader {
    const baseline_call &call;

    int64_t size(const char *name, int64_t least = 1) const {
        for (int i = 0; i < call.size_count; i++) {
            if (strcmp(call.size_name[i], name)) continue;
            if (call.size[i] < least)
                throw std::runtime_error(std::string("the size ") + name + " is " +
                                         std::to_string(call.size[i]) + ", expected at least " +
                                         std::to_string(least));
            return call.size[i];
        }
        throw std::runtime_error(std::string("the size ") + name + " is missing");
    }

    bool flag(const char *name) const {
        int64_t value = size(name, 0);
        if (value > 1) throw std::runtime_error(std::string(name) + " must be 0 or 1");
        return value == 1;
    }

    int64_t even(const char *name) const {
        int64_t value = size(name);
        if (value % 2) throw std::runtime_error(std::string(name) + " must be even");
        return value;
    }

    double real(const char *name) const {
        for (int i = 0; i < call.real_count; i++)
            if (!strcmp(call.real_name[i], name)) return call.real[i];
        throw std::runtime_error(std::string("the real ") + name + " is missing");
    }

    void expect_tensors(int count) const {
        if (call.tensor_count != count)
            throw std::runtime_error(std::to_string(call.tensor_count) + " buffers, expected " +
                                     std::to_string(count));
    }

    /* Wraps argument `index`, which must have the dtype (NULL: the problem's) and the shape. */
    Tensor tensor(int index, std::vector<int64_t> shape, const char *dtype = nullptr) const {
        const baseline_tensor &given = call.tensor[index];
        at::ScalarType type = scalar_type(dtype ? dtype : call.dtype);
        std::string what = "argument " + std::to_string(index);
        int64_t expected = 1;
        for (int64_t extent : shape)
            if (__builtin_mul_overflow(expected, extent, &expected))
                throw std::runtime_error(what + " would be too large");
        if (given.elements != expected)
            throw std::runtime_error(what + " has " + std::to_string(given.elements) +
                                     " elements, expected " + std::to_string(expected));
        if (scalar_type(given.dtype) != type)
            throw std::runtime_error(what + " is " + given.dtype + ", expected " +
                                     (dtype ? dtype : call.dtype));
        auto options = at::TensorOptions().dtype(type);
        if (device_ordinal >= 0)
            options =
                options.device(at::Device(at::kCUDA, static_cast<at::DeviceIndex>(device_ordinal)));
        if (!expected) return at::empty(shape, options);
        if (!given.data) throw std::runtime_error(what + " is a null pointer");
        return at::from_blob(given.data, shape, options);
    }
};

/* --- prepared calls ----------------------------------------------------------------------------
 */

struct work {
    virtual ~work() = default;
    virtual void refresh() {} /* makes what a forward pass makes once */
    virtual void run(bool copy_back) = 0;
    virtual void trial() { run(false); } /* leaves every buffer as it was */
};

struct rmsnorm final : work {
    Tensor y, x, weight;
    double eps;
    bool fused;

    rmsnorm(const reader &r, bool use_fused) : eps(r.real("eps")), fused(use_fused) {
        int64_t rows = r.size("rows"), hidden = r.size("hidden");
        r.expect_tensors(3);
        y = r.tensor(0, {rows, hidden});
        x = r.tensor(1, {rows, hidden});
        weight = r.tensor(2, {hidden});
    }
    Tensor norm() const {
#if HAVE_RMS_NORM
        if (fused) return at::rms_norm(x, weight.sizes(), weight, eps);
#endif
        return hf_rmsnorm(x, weight, eps);
    }
    void run(bool copy_back) override {
        Tensor out = norm();
        if (copy_back) y.copy_(out);
    }
};

struct add_rmsnorm final : work {
    Tensor y, residual, x, weight;
    double eps;

    explicit add_rmsnorm(const reader &r) : eps(r.real("eps")) {
        int64_t rows = r.size("rows"), hidden = r.size("hidden");
        r.expect_tensors(4);
        y = r.tensor(0, {rows, hidden});
        residual = r.tensor(1, {rows, hidden});
        x = r.tensor(2, {rows, hidden});
        weight = r.tensor(3, {hidden});
    }
    void run(bool copy_back) override {
        Tensor sum = residual + x; /* LlamaDecoderLayer: hidden_states = residual + hidden_states */
        Tensor out = hf_rmsnorm(sum, weight, eps);
        if (!copy_back) return;
        y.copy_(out);
        residual.copy_(sum);
    }
};

struct swiglu final : work {
    Tensor y, gate, up;
    bool packed;

    explicit swiglu(const reader &r) : packed(r.flag("packed")) {
        int64_t rows = r.size("rows"), width = r.size("width");
        r.expect_tensors(3);
        y = r.tensor(0, {rows, width});
        gate = r.tensor(1, {rows, packed ? 2 * width : width});
        up = r.tensor(2, {packed ? 0 : rows, width});
    }
    void run(bool copy_back) override {
        Tensor out;
        if (packed) { /* Phi3MLP: gate, up = gate_up.chunk(2, -1) */
            std::vector<Tensor> halves = gate.chunk(2, -1);
            out = halves[1] * at::silu(halves[0]);
        } else { /* LlamaMLP: act_fn(gate) * up */
            out = at::silu(gate) * up;
        }
        if (copy_back) y.copy_(out);
    }
};

/* cos and sin as LlamaRotaryEmbedding.forward returns them, (1, rows, head_dim) in the model's
 * dtype: it runs once a forward pass, so it is no part of a run. Positions are clamped: buffers
 * not yet filled must not take a GPU's context down. */
struct rotary {
    Tensor position, table, cos, sin;
    at::ScalarType type;
    bool adjacent;

    /* Arguments position (rows), inv_freq (head_dim/2; the table stands for it) and table. */
    rotary(const reader &r, int at_position, int at_inv_freq)
        : type(scalar_type(r.call.dtype)), adjacent(r.flag("adjacent")) {
        int64_t half = r.even("head_dim") / 2;
        position = r.tensor(at_position, {r.size("rows")}, "int32");
        r.tensor(at_inv_freq, {half}, "fp32");
        table = r.tensor(at_inv_freq + 1, {r.size("positions"), half, 2}, "fp32");
    }
    void refresh() {
        Tensor taken = table.index_select(0, position.clamp(0, table.size(0) - 1));
        cos = spread(taken.select(-1, 0));
        sin = spread(taken.select(-1, 1));
    }
    Tensor apply(const Tensor &x) const {
        return hf_rope(x, cos.unsqueeze(1), sin.unsqueeze(1), adjacent);
    }

  private:
    Tensor spread(const Tensor &half) const { /* (rows, head_dim/2) -> (1, rows, head_dim) */
        Tensor full =
            adjacent ? at::stack({half, half}, -1).flatten(-2) : at::cat({half, half}, -1);
        return full.unsqueeze(0).to(type);
    }
};

struct rope final : work {
    Tensor q, k; /* (1, heads, rows, head_dim) */
    rotary angles;

    explicit rope(const reader &r) : angles((r.expect_tensors(5), r), 2, 3) {
        int64_t rows = r.size("rows"), head_dim = r.size("head_dim");
        q = to_heads(r.tensor(0, {rows, r.size("q_heads"), head_dim}));
        k = to_heads(r.tensor(1, {rows, r.size("kv_heads"), head_dim}));
    }
    void refresh() override { angles.refresh(); }
    void run(bool copy_back) override {
        Tensor q_out = angles.apply(q), k_out = angles.apply(k);
        if (!copy_back) return;
        q.copy_(q_out);
        k.copy_(k_out);
    }
};

/* Rotates k and updates a StaticCache, which is in place in HuggingFace too: a run always writes
 * the given cache. With one sequence this is StaticCache.update, index_copy_ along the positions;
 * rows spread over several sequences, which it does not know, take index_put_. */
struct rope_kv_append final : work {
    using index = at::indexing::TensorIndex;
    Tensor k, v;             /* (1, kv_heads, rows, head_dim) */
    Tensor cache_k, cache_v; /* (sequences, kv_heads, capacity, head_dim) */
    Tensor sequence, at_sequence, at_position;
    rotary angles;

    explicit rope_kv_append(const reader &r) : angles((r.expect_tensors(8), r), 2, 4) {
        int64_t rows = r.size("rows"), heads = r.size("kv_heads"), head_dim = r.size("head_dim");
        int64_t sequences = r.size("sequences"), capacity = r.size("capacity");
        k = to_heads(r.tensor(0, {rows, heads, head_dim}));
        v = to_heads(r.tensor(1, {rows, heads, head_dim}));
        sequence = r.tensor(3, {rows}, "int32");
        cache_k = r.tensor(6, {sequences, heads, capacity, head_dim});
        cache_v = r.tensor(7, {sequences, heads, capacity, head_dim});
    }
    void refresh() override { /* clamped for the reason given at rotary */
        angles.refresh();
        at_position = angles.position.clamp(0, cache_k.size(2) - 1).to(at::kLong);
        at_sequence = sequence.clamp(0, cache_k.size(0) - 1).to(at::kLong);
    }
    void update(Tensor &cache, const Tensor &states) const {
        if (cache.size(0) == 1)
            cache.index_copy_(2, at_position, states);
        else
            by_row(cache).index_put_({index(at_sequence), index(at_position)}, from_heads(states));
    }
    void run(bool) override {
        update(cache_k, angles.apply(k));
        update(cache_v, v);
    }
    void trial() override {
        Tensor old_k = rows_of(cache_k), old_v = rows_of(cache_v);
        run(false);
        by_row(cache_k).index_put_({index(at_sequence), index(at_position)}, old_k);
        by_row(cache_v).index_put_({index(at_sequence), index(at_position)}, old_v);
    }

  private:
    static Tensor by_row(const Tensor &cache) { return cache.transpose(1, 2); }
    Tensor rows_of(const Tensor &cache) const {
        return by_row(cache).index({index(at_sequence), index(at_position)});
    }
};

struct stream final : work {
    Tensor to, from;

    explicit stream(const reader &r) {
        int64_t read = r.size("read_bytes", 0), written = r.size("write_bytes", 0);
        if (read != written)
            throw std::runtime_error("a copy reads as much as it writes, here read_bytes is " +
                                     std::to_string(read) + " and write_bytes " +
                                     std::to_string(written));
        r.expect_tensors(r.call.tensor_count == 3 ? 3 : 2); /* the third, a sum, stays as it is */
        to = r.tensor(0, {written}, "uint8");
        from = r.tensor(1, {read}, "uint8");
    }
    void run(bool) override { to.copy_(from); }
    void trial() override {}
};

/* --- what there is -----------------------------------------------------------------------------
 */

template <class Work> std::unique_ptr<work> make(const reader &r) {
    return std::make_unique<Work>(r);
}
template <bool fused> std::unique_ptr<work> make_rmsnorm(const reader &r) {
    return std::make_unique<rmsnorm>(r, fused);
}

/* |error| <= relative |reference| + absolute magnitude, both in unit roundoffs u of the dtype.
 * fp16 and bf16 (narrow): counted roundings of the dtype, and half a u (a tenth for rope) for the
 * second-order terms and the float arithmetic between. fp32 (wide): torch's float arithmetic. A
 * rounding that underflows is off by half the dtype's smallest subnormal instead, and is then
 * multiplied by what follows; that floor is the caller's to add. */
struct formula {
    const char *kernel, *name;
    std::unique_ptr<work> (*make)(const reader &);
    struct limit {
        double relative, absolute;
        const char *reason;
    } narrow, wide;
};

const formula formulas[] = {
    {"rmsnorm",
     "hf_eager",
     make_rmsnorm<false>,
     {2.5, 0, "x * rsqrt is rounded to the dtype, and so is its product with the weight: 2 u"},
     {16, 0, "a pairwise float mean, rsqrt to 2 ulp and three products"}},
#if HAVE_RMS_NORM
    {"rmsnorm",
     "torch_fused",
     make_rmsnorm<true>,
     {2.5, 0, "one rounding to the dtype where the op is one kernel, two where it is composed"},
     {16, 0, "a float mean by threads, rsqrt to 2 ulp and two products"}},
#endif
    {"add_rmsnorm",
     "hf_eager",
     make<add_rmsnorm>,
     {4.5, 0,
      "x + residual is rounded to the dtype (u, and through the mean at most u again), then "
      "x * rsqrt, then its product with the weight: 4 u"},
     {16, 0, "the rounded sum, a pairwise float mean, rsqrt to 2 ulp and three products"}},
    {"swiglu",
     "hf_eager",
     make<swiglu>,
     {2.5, 0, "silu is rounded to the dtype, and so is its product with up: 2 u"},
     {8, 0, "exp to 2 ulp, a sum, a quotient and a product in float"}},
    {"rope",
     "hf_eager",
     make<rope>,
     {1.1, 2.1,
      "cos and sin are rounded to the dtype, and so is each product (2 u of a term), and their "
      "sum (u of the result)"},
     {2, 4, "a table rounded to float, two products and a sum"}},
    {"rope_kv_append",
     "hf_eager",
     make<rope_kv_append>,
     {1.1, 2.1,
      "cos and sin are rounded to the dtype, and so is each product (2 u of a term), and their "
      "sum (u of the result); v is copied"},
     {2, 4, "a table rounded to float, two products and a sum; v is copied"}},
    {"stream", "torch_copy", make<stream>, {0, 0, "a copy is exact"}, {0, 0, "a copy is exact"}},
};

const formula &find(const char *kernel, const char *name) {
    bool known = false;
    for (const formula &f : formulas) {
        if (!kernel || strcmp(f.kernel, kernel)) continue;
        if (name && !strcmp(f.name, name)) return f;
        known = true;
    }
    if (known)
        throw std::runtime_error(std::string(kernel) + " has no formula " + (name ? name : "") +
                                 " in PyTorch " TORCH_VERSION);
    throw std::runtime_error(std::string("PyTorch has no formula for the kernel ") +
                             (kernel ? kernel : "(none)"));
}

/* --- the ABI -----------------------------------------------------------------------------------
 */

/* Nothing is thrown through the ABI. Of torch's messages the first line is the sentence, the rest
 * a backtrace. */
template <class Body> int guarded(Body body) {
    try {
        c10::InferenceMode inference;
#if BASELINE_CUDA
        if (device_ordinal >= 0) {
            auto device = static_cast<c10::DeviceIndex>(device_ordinal);
            c10::cuda::set_device(device);
            c10::cuda::setCurrentCUDAStream(
                c10::cuda::getStreamFromExternal(static_cast<cudaStream_t>(device_stream), device));
        }
#endif
        body();
        return 0;
    } catch (const std::exception &error) {
        last_error = error.what();
        last_error.resize(std::min(last_error.find('\n'), last_error.size()));
    } catch (...) {
        last_error = "PyTorch threw something that is no exception";
    }
    return -1;
}

const char *describe() { return "PyTorch " TORCH_VERSION; }

int open(int device, void *stream) {
    if (device >= 0 && !BASELINE_CUDA) {
        last_error = "this plugin was built without CUDA";
        return -1;
    }
    device_ordinal = device;
    device_stream = stream;
    return guarded([&] {
        if (device < 0) {
            unsigned cores = std::max(1u, std::thread::hardware_concurrency());
            at::set_num_threads(static_cast<int>(cores));
        } else { /* starts torch's side of CUDA, so that a failure shows here */
            at::Device gpu(at::kCUDA, static_cast<at::DeviceIndex>(device));
            at::empty({1}, at::TensorOptions().device(gpu));
        }
    });
}

void close() {
    device_ordinal = -1;
    device_stream = nullptr;
}

/* In the order of the table above; a kernel without any has an empty list. */
const char *const *formulas_of(const char *kernel) {
    static const auto lists = [] {
        std::map<std::string, std::vector<const char *>> made;
        for (const formula &f : formulas) made[f.kernel].push_back(f.name);
        for (auto &list : made) list.second.push_back(nullptr);
        return made;
    }();
    static const char *const none[] = {nullptr};
    auto found = lists.find(kernel ? kernel : "");
    return found == lists.end() ? none : found->second.data();
}

int prepare(const baseline_call *call, void **handle) {
    *handle = nullptr;
    int status = guarded([&] {
        std::unique_ptr<work> made = find(call->kernel, call->formula).make(reader{*call});
        made->refresh();
        made->trial();
        *handle = made.release();
    });
    if (status)
        last_error = std::string(call->kernel ? call->kernel : "(none)") + ", " +
                     (call->formula ? call->formula : "(none)") + ", " +
                     (call->dtype ? call->dtype : "(none)") + ": " + last_error;
    return status;
}

int run(void *handle, int copy_back) {
    return guarded([&] {
        work *w = static_cast<work *>(handle);
        if (copy_back) w->refresh();
        w->run(copy_back != 0);
    });
}

void release(void *handle) {
    guarded([&] { delete static_cast<work *>(handle); });
}

int bound(const char *kernel, const char *name, const char *dtype, double *relative,
          double *absolute, const char **reason) {
    return guarded([&] {
        const formula &f = find(kernel, name);
        at::ScalarType type = scalar_type(dtype);
        double u = type == at::kHalf ? 0x1p-11 : type == at::kBFloat16 ? 0x1p-8 : 0x1p-24;
        const formula::limit &limit = u > 0x1p-24 ? f.narrow : f.wide;
        *relative = limit.relative * u;
        *absolute = limit.absolute * u;
        *reason = limit.reason;
    });
}

const char *error() { return last_error.c_str(); }

const baseline plugin = {BASELINE_VERSION, describe, open,    close, formulas_of,
                         prepare,          run,      release, bound, error};

} // namespace

extern "C" __attribute__((visibility("default"))) const baseline *fastinfer_baseline(void) {
    return &plugin;
}
