// gemv.cuh - rows of a weight matrix times a few vectors: what gemv, gemv_residual, gemv_norm and
// gemv_norm_swiglu share. Everything but where the sums go.
//
// The weights are the traffic: they are streamed once, past L1, through registers, AHEAD stages in
// flight a thread, the first ones asked for before the activations are looked at. TEAM threads of a
// block have a row (lanes of a warp, or whole warps); a team takes ROWS rows at once, STEP words of
// each a stage. The activations come from SOURCE: 0 shared memory, as elements, 1 shared memory, as
// floats, 2 memory (L1, L2), 3 registers, as floats: a stage is then a whole row.
//
// With NORM x is fp32 and stands for rmsnorm(x, norm). The scale 1 / rms is the same for a whole
// row and is left to the end; what is staged is x norm. With PAIR a team takes row r and row r +
// outputs together.
//
// Sums: a word's products one after the other, the words of a thread one after the other, the
// threads of a warp as a tree, the warps of a team one after the other.
#ifndef KERNELS_GEMV_CUH
#define KERNELS_GEMV_CUH

#include "kernels/tile.cuh"

enum { GEMV_ELEMENTS, GEMV_FLOATS, GEMV_L2, GEMV_REGISTERS }; // where activations are

// N floats from p, aligned to as many of them as a 16-byte load takes.
DEVICE void gemv_floats(const float *p, float *f, int_tag<1>) { f[0] = *p; }
DEVICE void gemv_floats(const float *p, float *f, int_tag<2>) {
    unpack<element_of<2>>(*(const uint2 *)p, f);
}
DEVICE void gemv_floats(const float *p, float *f, int_tag<4>) {
    unpack<element_of<2>>(*(const uint4 *)p, f);
}
DEVICE void gemv_floats(const float *p, float *f, int_tag<8>) {
    gemv_floats(p, f, int_tag<4>()), gemv_floats(p + 4, f + 4, int_tag<4>());
}

// N, or the next power of two.
template <int N> struct gemv_padded {
    enum { COUNT = 2 * gemv_padded<(N + 1) / 2>::COUNT };
};
template <> struct gemv_padded<1> {
    enum { COUNT = 1 };
};

// Sums of a[0] .. a[P - 1] over 2 X lanes that are neighbours: each turn halves what a lane still
// has to add and keeps, so that P sums cost about P shuffles and not 5 P. P is a power of two. In
// the end lane l of them holds sum l P / 2X in a[0] where P <= 2X, else sums l P / 2X + i in a[i].
template <int P, int X> struct gemv_fold {
    DEVICE void run(float *a) {
        const bool upper = threadIdx.x & X;
#pragma unroll
        for (int i = 0; i < P / 2; i++) {
            const float give = upper ? a[i] : a[i + P / 2], keep = upper ? a[i + P / 2] : a[i];
            a[i] = keep + __shfl_xor_sync(~0u, give, X);
        }
        gemv_fold<P / 2, X / 2>::run(a);
    }
};
template <int X> struct gemv_fold<1, X> {
    DEVICE void run(float *a) {
        a[0] += __shfl_xor_sync(~0u, a[0], X);
        gemv_fold<1, X / 2>::run(a);
    }
};
template <int P> struct gemv_fold<P, 0> {
    DEVICE void run(float *) {}
};
template <> struct gemv_fold<1, 0> {
    DEVICE void run(float *) {}
};

// POINT has the point's and the problem's numbers (see GEMV_POINT); SINK takes each sum:
// SINK::put(sink, sequence, row, sum, sum of the row's other half).
template <class POINT, class SINK> struct gemv_run {
    typedef element_of<POINT::DTYPE_> E;
    typedef typename E::type element;
    typedef element_of<POINT::NORM_ ? 2 : POINT::DTYPE_> as_given; // x
    typedef typename as_given::type input;
    typedef typename word_of<POINT::BYTES_>::type word;

    static const int SOURCE = POINT::SOURCE_; // not of the enumeration that it is compared with
    enum {
        B = POINT::BATCH_,
        ROWS_ = POINT::ROWS_,
        TEAM = POINT::TEAM_,
        THREADS_ = POINT::THREADS_,
        AHEAD_ = POINT::AHEAD_,
        NORM_ = POINT::NORM_,
        V = POINT::BYTES_ / E::BYTES,                             // elements of a word
        WORDS_ = POINT::INPUTS_ / V,                              // of a row
        CHUNKS_ = (WORDS_ + TEAM - 1) / TEAM,                     // words a thread has of a row
        STEP = SOURCE == GEMV_REGISTERS ? CHUNKS_ : POINT::STEP_, // words a stage has of a row
        STEPS = (CHUNKS_ + STEP - 1) / STEP,                      // stages of a row
        RAGGED_ = WORDS_ % (TEAM * STEP) != 0,    // the last stage is not all threads'
        LINES = POINT::PAIR_ ? 2 * ROWS_ : ROWS_, // rows of the matrix at once
        TEAMS = THREADS_ / TEAM,                  // of a block
        HEIGHT = TEAMS * ROWS_,                   // rows a block takes at once
        LANES_ = TEAM < 32 ? TEAM : 32,           // a team's, in a warp
        WARPS = TEAM < 32 ? 1 : TEAM / 32,        // a team's
        SUMS = LINES * B,                         // a team's
        FOLD = gemv_padded<SUMS>::COUNT,          // SUMS and zeros
        SET = TEAMS * SUMS * WARPS,               // floats of all the block's sums
        // Teams of more than a warp meet at a barrier: once for so many turns.
        TURNS = TEAM <= 32        ? 1
                : SET * 8 <= 2048 ? 8
                : SET * 2 <= 2048 ? 2
                                  : 1,
        PLANE = V < 4 ? V : 4, // floats of a 16-byte load of staged activations
        PLANES = V / PLANE,
        KEPT = SOURCE == GEMV_REGISTERS ? CHUNKS_ * V : 1,         // activations in registers
        STAGED = SOURCE == GEMV_ELEMENTS || SOURCE == GEMV_FLOATS, // in shared memory
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

    // A stage's words of this thread; what lies past the ends reads as zero.
    DEVICE void fetch(word (&w)[LINES][STEP], const word *row, long long other, int left, int n) {
#pragma unroll
        for (int l = 0; l < LINES; l++) {
            const word *line = row + l % ROWS_ * WORDS_ + (l / ROWS_ ? other : 0);
#pragma unroll
            for (int i = 0; i < STEP; i++) {
                w[l][i] = word();
                if (l % ROWS_ < left && (!RAGGED_ || n + i * TEAM < WORDS_))
                    w[l][i] = load_word<POINT::HINT_>(line + n + i * TEAM);
            }
        }
    }

    // Word n of sequence b's activations, from memory.
    DEVICE void read(const activations &x, int b, int n, float *f) {
        const input *p = x.x + (long long)b * POINT::INPUTS_ + n * V;
        if (NORM_) {
            gemv_floats((const float *)p, f, int_tag<V>());
        } else {
            unpack<E>(*(const word *)p, f);
        }
    }
    DEVICE void read_norm(const activations &x, int n, float *f) {
        unpack<E>(((const word *)x.norm)[n], f);
    }

    // Where float plane p of word n of sequence b is staged.
    DEVICE float *plane(unsigned *staged, int b, int p, int n) {
        return (float *)staged + ((b * PLANES + p) * WORDS_ + n) * PLANE;
    }

    DEVICE void staged_word(const activations &x, int b, int n, float *f) {
        if (SOURCE == GEMV_L2) read(x, b, n, f);
        if (SOURCE == GEMV_ELEMENTS) unpack<E>(((const word *)x.staged)[b * WORDS_ + n], f);
        if (SOURCE == GEMV_FLOATS) {
#pragma unroll
            for (int p = 0; p < PLANES; p++)
                gemv_floats(plane(x.staged, b, p, n), f + p * PLANE, int_tag<PLANE>());
        }
    }

    // Has word n of sequence b in shared memory, or in `keep`; returns the sum of its squares.
    DEVICE float stage_word(const activations &x, int b, int n, float *keep) {
        float f[V], g[V], sum = 0.0f;
        if (SOURCE == GEMV_ELEMENTS) {
            ((word *)x.staged)[b * WORDS_ + n] = ((const word *)x.x)[b * WORDS_ + n];
            return 0.0f;
        }
        read(x, b, n, f);
        if (NORM_) {
            if (SOURCE != GEMV_L2) read_norm(x, n, g);
#pragma unroll
            for (int k = 0; k < V; k++) {
                sum += f[k] * f[k];
                if (SOURCE != GEMV_L2) f[k] *= g[k];
            }
        }
#pragma unroll
        for (int k = 0; k < V; k++) {
            if (SOURCE == GEMV_FLOATS) plane(x.staged, b, k / PLANE, n)[k % PLANE] = f[k];
            if (SOURCE == GEMV_REGISTERS) keep[k] = f[k];
        }
        return sum;
    }

    // All of the activations to where they are wanted, and 1 / rms of each sequence.
    DEVICE void stage(const activations &x, float (&keep)[B][KEPT], float eps, float *scale) {
        enum { SQUARES = gemv_padded<B>::COUNT, PARTS = THREADS_ / 32 };
        SHARED(float, part, [PARTS][SQUARES]);
        float squares[SQUARES];
#pragma unroll
        for (int b = 0; b < SQUARES; b++) squares[b] = 0.0f;
#pragma unroll
        for (int b = 0; b < B; b++) {
            if (SOURCE == GEMV_REGISTERS) {
#pragma unroll
                for (int i = 0; i < CHUNKS_; i++) {
                    const int n = threadIdx.x % TEAM + i * TEAM;
#pragma unroll
                    for (int k = 0; k < V; k++) keep[b][(i * V + k) % KEPT] = 0.0f;
                    if (!RAGGED_ || n < WORDS_)
                        squares[b] += stage_word(x, b, n, keep[b] + (i * V % KEPT));
                }
            } else if (STAGED || NORM_) {
                for (int n = threadIdx.x; n < WORDS_; n += THREADS_)
                    squares[b] += stage_word(x, b, n, keep[b]);
            }
        }
        if (NORM_) {
            // With GEMV_REGISTERS every team has added up the same row.
            const int parts = SOURCE == GEMV_REGISTERS ? (int)WARPS : (int)PARTS;
            const float copies = SOURCE == GEMV_REGISTERS ? 32 / LANES_ : 1;
            gemv_fold<SQUARES, 16>::run(squares);
            if (threadIdx.x % (32 / SQUARES) == 0)
                part[threadIdx.x / 32][threadIdx.x % 32 / (32 / SQUARES)] = squares[0];
            __syncthreads();
            if (threadIdx.x < B) {
                float sum = 0.0f;
                for (int i = 0; i < parts; i++) sum += part[i][threadIdx.x];
                scale[threadIdx.x] = rsqrtf(sum / (copies * POINT::INPUTS_) + eps);
            }
        }
        if (NORM_ || STAGED) __syncthreads();
    }

    // Adds a stage's products; n is the first word's place in its row.
    DEVICE void multiply(const word (&w)[LINES][STEP], const activations &x,
                         const float (&keep)[B][KEPT], int n, float (&sum)[LINES][B]) {
#pragma unroll
        for (int i = 0; i < STEP; i++) {
            const int at = n + i * TEAM;
            if (RAGGED_ && at >= WORDS_) continue;
            float f[LINES][V];
#pragma unroll
            for (int l = 0; l < LINES; l++) unpack<E>(w[l][i], f[l]);
            if (NORM_ && SOURCE == GEMV_L2) {
                float g[V];
                read_norm(x, at, g);
#pragma unroll
                for (int l = 0; l < LINES; l++)
#pragma unroll
                    for (int k = 0; k < V; k++) f[l][k] *= g[k];
            }
#pragma unroll
            for (int b = 0; b < B; b++) {
                float g[V];
                staged_word(x, b, at, g);
#pragma unroll
                for (int l = 0; l < LINES; l++) {
                    float word_sum = 0.0f;
#pragma unroll
                    for (int k = 0; k < V; k++)
                        word_sum += f[l][k] *
                                    (SOURCE == GEMV_REGISTERS ? keep[b][(i * V + k) % KEPT] : g[k]);
                    sum[l][b] += word_sum;
                }
            }
        }
    }

    // A team's sums over its lanes, into `set`, and zeros for the next rows.
    DEVICE void fold(float (&sum)[LINES][B], float *set) {
        enum {
            EACH = FOLD > LANES_ ? FOLD / LANES_ : 1, // sums a lane has in the end
            SAME = FOLD > LANES_ ? 1 : LANES_ / FOLD
        }; // lanes with the same
        const int lane = threadIdx.x % LANES_, team = threadIdx.x / TEAM;
        float a[FOLD];
#pragma unroll
        for (int i = 0; i < FOLD; i++) a[i] = i < SUMS ? sum[i < SUMS ? i / B : 0][i % B] : 0.0f;
        gemv_fold<FOLD, LANES_ / 2>::run(a);
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int s = lane / SAME * EACH + i;
            if (lane % SAME == 0 && s < SUMS)
                set[(team * SUMS + s) * WARPS + threadIdx.x % TEAM / 32] = a[i];
        }
#pragma unroll
        for (int l = 0; l < LINES; l++)
#pragma unroll
            for (int b = 0; b < B; b++) sum[l][b] = 0.0f;
    }

    DEVICE float total(const float *set, int team, int line, int b) {
        const float *s = set + (team * SUMS + line * B + b) * WARPS;
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < WARPS; i++) sum += s[i];
        return sum;
    }

    // One of a block's HEIGHT x B results of one turn, to whom it may concern.
    DEVICE void put(const SINK &sink, const float *set, const float *scale, int row, int line,
                    int b, int outputs) {
        const int team = line / ROWS_, r = line % ROWS_;
        if (row + line >= outputs) return;
        float one = total(set, team, r, b), two = 0.0f;
        if (POINT::PAIR_) two = total(set, team, ROWS_ + r, b);
        if (NORM_) one *= scale[b], two *= scale[b];
        SINK::put(sink, b, row + line, one, two);
    }

    DEVICE void run(const weights &m, activations x, float eps, const SINK &sink) {
        SHARED_DYNAMIC(unsigned, staged);
        SHARED(float, sets, [TEAM > 32 ? 2 : 1][TURNS][SET]);
        SHARED(float, scale, [B]);
        x.staged = staged;
        const int t = threadIdx.x % TEAM, team = threadIdx.x / TEAM;
        const int stride = gridDim.x * HEIGHT, first = blockIdx.x * HEIGHT;
        const int turns = first < m.outputs ? (m.outputs - first + stride - 1) / stride : 0;
        const int stages = turns * STEPS;
        word w[AHEAD_][LINES][STEP];
        float keep[B][KEPT], sum[LINES][B];

        // What is fetched next, and what is used next: stage, place in the row, row.
        int coming = 0, coming_step = 0, coming_row = first + team * ROWS_;
        int step = 0, turn = 0, half = 0;
        const word *line = (const word *)m.weight + (long long)coming_row * WORDS_;
        auto fetch_next = [&](word(&to)[LINES][STEP]) {
            if (coming++ >= stages) return;
            fetch(to, line, m.other, m.outputs - coming_row, t + coming_step * (STEP * TEAM));
            if (++coming_step < STEPS) return;
            coming_step = 0, coming_row += stride, line += (long long)stride * WORDS_;
        };
#pragma unroll
        for (int d = 0; d < AHEAD_; d++) fetch_next(w[d]);
        stage(x, keep, eps, scale);
#pragma unroll
        for (int l = 0; l < LINES; l++)
#pragma unroll
            for (int b = 0; b < B; b++) sum[l][b] = 0.0f;

#pragma unroll 1
        for (int base = 0; base < stages; base += AHEAD_) {
#pragma unroll
            for (int d = 0; d < AHEAD_; d++) {
                if (base + d >= stages) break;
                multiply(w[d], x, keep, t + step * (STEP * TEAM), sum);
                fetch_next(w[d]);
                if (++step < STEPS) continue;
                step = 0;
                fold(sum, sets[half][turn % TURNS]);
                finish(sets[half], scale, sink, first, stride, turn, turns, m.outputs);
                turn++;
                if (TEAM > 32 && turn % TURNS == 0) half ^= 1;
            }
        }
    }

    // After a turn's sums were folded: results, now or a few turns at once.
    DEVICE void finish(float (&sets)[TURNS][SET], const float *scale, const SINK &sink, int first,
                       int stride, int turn, int turns, int outputs) {
        if (TEAM <= 32) {
            const int t = threadIdx.x % TEAM, team = threadIdx.x / TEAM;
            __syncwarp();
#pragma unroll
            for (int o = t; o < ROWS_ * B; o += TEAM)
                put(sink, sets[0], scale, first + turn * stride, team * ROWS_ + o % ROWS_,
                    o / ROWS_, outputs);
            __syncwarp();
        } else if (turn % TURNS == TURNS - 1 || turn == turns - 1) {
            // The next sums go to the other half; this one is read before the barrier after them.
            const int done = turn % TURNS + 1, from = turn - turn % TURNS;
            __syncthreads();
            for (int o = threadIdx.x; o < done * HEIGHT * B; o += THREADS_) {
                const int k = o / (HEIGHT * B), rest = o % (HEIGHT * B);
                put(sink, sets[k], scale, first + (from + k) * stride, rest % HEIGHT, rest / HEIGHT,
                    outputs);
            }
        }
    }
};

// --- the fp64 check ------------------------------------------------------------------------------

struct gemv_dot {
    double sum, magnitude;
};
// A row times a row, in fp64; with `norm` x is multiplied by it first. F: the elements of x.
template <class F, class E_, int INPUTS_>
DEVICE gemv_dot gemv_check(const typename F::type *x, const typename E_::type *weight,
                           const typename E_::type *norm) {
    gemv_dot dot = {0, 0};
    for (int k = 0; k < INPUTS_; k++) {
        double term = (double)F::load(x[k]) * (double)E_::load(weight[k]);
        if (norm) term *= (double)E_::load(norm[k]);
        dot.sum += term, dot.magnitude += term < 0 ? -term : term;
    }
    return dot;
}
// 1 / rms of each of the sequences, to `scale`, by a block of 256 threads.
template <int BATCH_, int INPUTS_>
DEVICE void gemv_check_scale(const float *x, float eps, double *scale) {
    SHARED(double, part, [256]);
    for (int b = 0; b < BATCH_; b++) {
        double sum = 0;
        for (int k = threadIdx.x; k < INPUTS_; k += 256)
            sum += (double)x[b * INPUTS_ + k] * (double)x[b * INPUTS_ + k];
        __syncthreads();
        part[threadIdx.x] = sum;
        __syncthreads();
        sum = 0;
        for (int i = 0; i < 256; i++) sum += part[i];
        if (threadIdx.x == 0) scale[b] = 1.0 / sqrt(sum / INPUTS_ + (double)eps);
    }
    __syncthreads();
}

// For ENTRY_BOUNDS: threads, and the blocks that have to be resident together.
#define GEMV_BOUNDS BLOCK, (BLOCKS_PER_SM ? BLOCKS_PER_SM : 1)

// The macros of a point and a problem as what gemv_run takes.
#define GEMV_POINT(norm, pair)                                                                     \
    struct gemv_point {                                                                            \
        enum {                                                                                     \
            DTYPE_ = DTYPE,                                                                        \
            BATCH_ = BATCH,                                                                        \
            INPUTS_ = INPUTS,                                                                      \
            NORM_ = norm,                                                                          \
            PAIR_ = pair,                                                                          \
            THREADS_ = BLOCK,                                                                      \
            TEAM_ = ROW_THREADS,                                                                   \
            ROWS_ = ROWS,                                                                          \
            STEP_ = UNROLL,                                                                        \
            AHEAD_ = DEPTH,                                                                        \
            SOURCE_ = STAGING,                                                                     \
            BYTES_ = VECTOR_BYTES,                                                                 \
            HINT_ = LOAD_HINT                                                                      \
        };                                                                                         \
    }

#endif
