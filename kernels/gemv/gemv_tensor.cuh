// gemv_tensor.cuh - rows of a weight matrix times several vectors on tensor cores: the same job as
// gemv.cuh's, for so many sequences that multiplying them one by one would cost more than reading
// the weights.
//
// A team of TEAM threads, whole warps, takes ROWS tiles of 8 rows at once. A warp multiplies 32
// columns of a tile by all sequences (8 or 16 with the empty ones) in two products of 16 columns;
// the warps of a team take turns along the row. A lane's 16 bytes are columns 2t, 2t + 1, 2t + 8,
// 2t + 9 of the two products, in both operands: which columns a product calls its own is free. The
// weights go through registers, AHEAD stages of STEP words a row in flight, as in gemv.cuh.
//
// Activations are elements: in shared memory (SOURCE 4), rows of them 4 words apart modulo 8 so
// that no two lanes' words share a bank, or in memory (L1, L2; SOURCE 5). With NORM they are
// rmsnorm(x, norm) rounded to the element: a tensor core takes no more.
#ifndef KERNELS_GEMV_TENSOR_CUH
#define KERNELS_GEMV_TENSOR_CUH

#include "kernels/gemv/gemv.cuh"

enum { GEMV_TENSOR_SHARED = 4, GEMV_TENSOR_L2 };

template <class POINT, class SINK> struct gemv_tensor {
    typedef element_of<POINT::DTYPE_> E;
    typedef typename E::type element;
    typedef typename element_of<POINT::NORM_ ? 2 : POINT::DTYPE_>::type input; // x
    enum {
        B = POINT::BATCH_,
        ROWS_ = POINT::ROWS_,
        TEAM = POINT::TEAM_,
        THREADS_ = POINT::THREADS_,
        AHEAD_ = POINT::AHEAD_,
        STEP = POINT::STEP_,
        NORM_ = POINT::NORM_,
        STAGED = (int)POINT::SOURCE_ == (int)GEMV_TENSOR_SHARED,
        WORDS_ = POINT::INPUTS_ / 8, // 16 bytes each, of a row
        TILES = POINT::PAIR_ ? 2 * ROWS_ : ROWS_,
        TEAMS = THREADS_ / TEAM,
        HEIGHT = TEAMS * 8 * ROWS_, // rows a block takes at once
        WARPS = TEAM / 32,
        TURN = 4 * WARPS, // words of a row that a team takes together
        EACH = (WORDS_ + TURN - 1) / TURN,
        STEPS = (EACH + STEP - 1) / STEP,
        RAGGED_ = WORDS_ % (TURN * STEP) != 0,
        SUMS = B > 8 ? 4 : 2, // of a lane and a tile
        STRIDE = WORDS_ + (12 - WORDS_ % 8) % 8,
        SET = TEAMS * WARPS * ROWS_ * SUMS * 32 * (POINT::PAIR_ ? 2 : 1),
    };
    struct weights {
        const element *weight;
        long long other; // words from a row to its other half
        int outputs;
    };
    struct activations {
        const input *x;
        const element *norm;
        unsigned *staged;
    };

    // A stage's words of this lane's row of each tile; what lies past the ends reads as zero.
    DEVICE void fetch(uint4 (&w)[TILES][STEP], const uint4 *row, long long other, int left, int n) {
#pragma unroll
        for (int l = 0; l < TILES; l++) {
            const uint4 *line = row + l % ROWS_ * 8 * WORDS_ + (l / ROWS_ ? other : 0);
#pragma unroll
            for (int i = 0; i < STEP; i++) {
                w[l][i] = uint4();
                if (l % ROWS_ * 8 < left && (!RAGGED_ || n + i * TURN < WORDS_))
                    w[l][i] = load_word<POINT::HINT_>(line + n + i * TURN);
            }
        }
    }

    DEVICE uint4 activation(const activations &x, int b, int n) {
        if (b >= B || (RAGGED_ && n >= WORDS_)) return uint4();
        if (STAGED) return ((const uint4 *)x.staged)[b * STRIDE + n];
        return ((const uint4 *)x.x)[b * WORDS_ + n];
    }

    DEVICE void multiply(const uint4 (&w)[TILES][STEP], const activations &x, int n,
                         float (&d)[TILES][2][4]) {
        const int g = threadIdx.x % 32 / 4;
#pragma unroll
        for (int i = 0; i < STEP; i++) {
            const uint4 v = activation(x, g, n + i * TURN);
            const uint4 u = B > 8 ? activation(x, g + 8, n + i * TURN) : uint4();
            const uint32_t first[4] = {v.x, u.x, v.y, u.y}, second[4] = {v.z, u.z, v.w, u.w};
#pragma unroll
            for (int l = 0; l < TILES; l++) {
                const uint32_t a[2] = {w[l][i].x, w[l][i].y}, b[2] = {w[l][i].z, w[l][i].w};
                ptx_mma<POINT::DTYPE_>(d[l][0], first, a);
                ptx_mma<POINT::DTYPE_>(d[l][1], second, b);
            }
        }
    }

    // 1 / rms of each sequence.
    DEVICE void find_scales(const float *x, float eps, float *scale) {
        enum { SQUARES = gemv_padded<B>::COUNT, PARTS = THREADS_ / 32 };
        SHARED(float, part, [PARTS][SQUARES]);
        float squares[SQUARES];
#pragma unroll
        for (int b = 0; b < SQUARES; b++) {
            squares[b] = 0.0f;
            if (b >= B) continue;
            for (int n = threadIdx.x; n < WORDS_; n += THREADS_) {
                float f[8];
                gemv_floats(x + (long long)b * POINT::INPUTS_ + n * 8, f, int_tag<8>());
#pragma unroll
                for (int k = 0; k < 8; k++) squares[b] += f[k] * f[k];
            }
        }
        gemv_fold<SQUARES, 16>::run(squares);
        if (threadIdx.x % (32 / SQUARES) == 0)
            part[threadIdx.x / 32][threadIdx.x % 32 / (32 / SQUARES)] = squares[0];
        __syncthreads();
        if (threadIdx.x < B) {
            float sum = 0.0f;
            for (int i = 0; i < PARTS; i++) sum += part[i][threadIdx.x];
            scale[threadIdx.x] = rsqrtf(sum / POINT::INPUTS_ + eps);
        }
        __syncthreads();
    }

    DEVICE void stage(const activations &x, const float *scale) {
        for (int i = threadIdx.x; i < B * WORDS_; i += THREADS_) {
            const int b = i / WORDS_, n = i % WORDS_;
            uint4 word;
            if (NORM_) {
                float f[8], g[8];
                gemv_floats((const float *)x.x + (long long)i * 8, f, int_tag<8>());
                unpack<E>(((const uint4 *)x.norm)[n], g);
#pragma unroll
                for (int k = 0; k < 8; k++) f[k] *= scale[b] * g[k];
                pack<E>(f, word);
            } else {
                word = ((const uint4 *)x.x)[i];
            }
            ((uint4 *)x.staged)[b * STRIDE + n] = word;
        }
        __syncthreads();
    }

    // A turn's sums: of one warp straight on, of several through shared memory, where the next
    // turn's go to the other half, so that one barrier is enough.
    DEVICE void finish(float (&d)[TILES][2][4], float *set, const SINK &sink, int row,
                       int outputs) {
        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
        for (int l = 0; l < TILES; l++)
#pragma unroll
            for (int i = 0; i < SUMS; i++) {
                d[l][0][i] += d[l][1][i];
                if (WARPS > 1) set[((warp * TILES + l) * SUMS + i) * 32 + lane] = d[l][0][i];
            }
        if (WARPS == 1) {
#pragma unroll
            for (int l = 0; l < ROWS_; l++)
#pragma unroll
                for (int i = 0; i < SUMS; i++)
                    put(sink, row + (warp * ROWS_ + l) * 8, lane, i, outputs, d[l][0][i],
                        POINT::PAIR_ ? d[(ROWS_ + l) % TILES][0][i] : 0.0f);
        } else {
            __syncthreads();
            for (int o = threadIdx.x; o < TEAMS * ROWS_ * SUMS * 32; o += THREADS_) {
                const int team = o / (ROWS_ * SUMS * 32), at = o % (ROWS_ * SUMS * 32);
                float sum[2] = {0.0f, 0.0f};
                for (int p = 0; p <= POINT::PAIR_; p++)
#pragma unroll
                    for (int w = 0; w < WARPS; w++)
                        sum[p] += set[((team * WARPS + w) * TILES + p * ROWS_) * SUMS * 32 + at];
                put(sink, row + (team * ROWS_ + at / (SUMS * 32)) * 8, at % 32, at / 32 % SUMS,
                    outputs, sum[0], sum[1]);
            }
        }
#pragma unroll
        for (int l = 0; l < TILES; l++)
#pragma unroll
            for (int i = 0; i < 4; i++) d[l][0][i] = d[l][1][i] = 0.0f;
    }
    DEVICE void put(const SINK &sink, int row, int lane, int i, int outputs, float one, float two) {
        const int b = lane / 4 + i / 2 * 8, r = row + lane % 4 * 2 + i % 2;
        if (b < B && r < outputs) SINK::put(sink, b, r, one, two);
    }

    DEVICE void run(const weights &m, activations x, float eps, const SINK &sink) {
        SHARED_DYNAMIC(uint4, staged);
        SHARED(float, sets, [2][WARPS > 1 ? (int)SET : 1]);
        SHARED(float, scale, [B]);
        x.staged = (unsigned *)staged;
        const int lane = threadIdx.x % 32, team = threadIdx.x / TEAM;
        const int n = threadIdx.x % TEAM / 32 * 4 + lane % 4; // this lane's first word
        const int stride = gridDim.x * HEIGHT, first = blockIdx.x * HEIGHT;
        const int turns = first < m.outputs ? (m.outputs - first + stride - 1) / stride : 0;
        const int stages = turns * STEPS;
        uint4 w[AHEAD_][TILES][STEP];
        float d[TILES][2][4];

        int coming = 0, coming_step = 0, coming_row = first + team * 8 * ROWS_ + lane / 4;
        int step = 0, turn = 0;
        const uint4 *line = (const uint4 *)m.weight + (long long)coming_row * WORDS_;
        auto fetch_next = [&](uint4(&to)[TILES][STEP]) {
            if (coming++ >= stages) return;
            fetch(to, line, m.other, m.outputs - coming_row, n + coming_step * (STEP * TURN));
            if (++coming_step < STEPS) return;
            coming_step = 0, coming_row += stride, line += (long long)stride * WORDS_;
        };
#pragma unroll
        for (int k = 0; k < AHEAD_; k++) fetch_next(w[k]);
        if (NORM_) find_scales((const float *)x.x, eps, scale);
        if (STAGED) stage(x, scale);
#pragma unroll
        for (int l = 0; l < TILES; l++)
#pragma unroll
            for (int i = 0; i < 4; i++) d[l][0][i] = d[l][1][i] = 0.0f;

#pragma unroll 1
        for (int base = 0; base < stages; base += AHEAD_) {
#pragma unroll
            for (int k = 0; k < AHEAD_; k++) {
                if (base + k >= stages) break;
                multiply(w[k], x, n + step * (STEP * TURN), d);
                fetch_next(w[k]);
                if (++step < STEPS) continue;
                step = 0;
                finish(d, sets[turn % 2], sink, first + turn * stride, m.outputs);
                turn++;
            }
        }
    }
};

// Which of the two a point asks for.
template <class POINT, class SINK, bool TENSOR> struct gemv_of {
    typedef gemv_run<POINT, SINK> type;
};
template <class POINT, class SINK> struct gemv_of<POINT, SINK, true> {
    typedef gemv_tensor<POINT, SINK> type;
};

#endif
