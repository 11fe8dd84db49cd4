// matrix.inl - activations into shared memory, and a block's rows of a matrix times them.
// Sixteen bytes of a sequence's activations, the at-th of its row, to where multiply_tile() looks
// for them: of 64 columns, 16 lanes' 8 bytes one after another.
DEVICE void put_activations(element *row, int at, uint4 word) {
    uint2 *to = (uint2 *)row + at / 4 * 8 + at % 4;
    to[0] = make_uint2(word.x, word.z), to[4] = make_uint2(word.y, word.w);
}

// OF_OUT, OF_DOWN, or OF_NORMED for the others, which share their code: see `kind` below.
template <int KIND> struct of_kind {
    enum {
        INPUTS = KIND == OF_OUT    ? (int)Q
                 : KIND == OF_DOWN ? (int)INTERMEDIATE
                                   : (int)HIDDEN,
        PLAIN = KIND != OF_NORMED,
        TILES = DECODE_STEP_TILES(INPUTS),
        WIDTH = DECODE_STEP_WIDTH(INPUTS),
        PIECES = PLAIN ? DECODE_STEP_PIECES(INPUTS) : 1,
        PIECE = PLAIN ? DECODE_STEP_PIECE(INPUTS) : (int)HIDDEN,
        STRIDE = DECODE_STEP_STRIDE(PIECE),
    };
};

// x: (BATCH, columns) elements in shared memory, those from column `from` to `end`, of quads that a
// phase left: (BATCH, INPUTS / 4). All of a thread's are asked for at once, and again until all are
// new, without a branch that would have one wait for another; what a thread has none of, it asks
// for as well.
template <int KIND>
DEVICE void take_quads(const uint2 *quads, unsigned bit, int from, int end, element *x) {
    typedef of_kind<KIND> K;
    enum {
        TOTAL = (BATCH * K::PIECE / 8 + CONSUMERS - 1) / CONSUMERS,
        AT_ONCE = TOTAL < 12 ? TOTAL : 12,
    };
    const uint4 *rows = (const uint4 *)quads + from / 8;
    const int words = K::PIECES == 1 ? K::INPUTS / 8 : (end - from) / 8, all_words = BATCH * words;
#pragma unroll 1
    for (int at = (int)threadIdx.x; at < all_words; at += AT_ONCE * CONSUMERS) {
        uint4 v[AT_ONCE];
        for (bool all = false; !all;) {
            unsigned old = 0;
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++) {
                const int n = min(at + i * CONSUMERS, all_words - 1);
                v[i] = ptx_load_relaxed_pair(rows + n / words * (K::INPUTS / 8) + n % words);
            }
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++) old |= old_quads(v[i], bit);
            all = !(old & 1);
            if (!all) spin_yield();
        }
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            const int n = at + i * CONSUMERS;
            v[i].x &= ~1u, v[i].z &= ~1u;
            if (n < all_words) put_activations(x + n / words * K::STRIDE, n % words, v[i]);
        }
    }
}

// What is normed is handed on before anybody knows its mean of squares: an element of the residual,
// times the next norm's weight, times what this sequence's last norm was, over NORM_ROOM. What that
// leaves out is a factor of the product's sums, found while they are made. A residual may grow by
// some 10^4 from one norm to the next before an element overflows.
enum { NORM_ROOM = 16, SQUARES = HIDDEN / 8 }; // a sum of squares a unit
struct scales {
    float left_out[BATCH], handed_on[BATCH];
};
DEVICE void set_scales(const step &s, scales &c, int b, float squares) {
    const float scale = rsqrtf(squares / HIDDEN + s.m->eps);
    if (threadIdx.x % 32) return;
    c.left_out[b] = scale / c.handed_on[b], c.handed_on[b] = scale / NORM_ROOM;
}

enum { EACH_SQUARE = (SQUARES + 31) / 32, SQUARES_AT_ONCE = EACH_SQUARE < 16 ? EACH_SQUARE : 16 };
DEVICE void ask_squares(const step &s, int b, int from, unsigned (&v)[SQUARES_AT_ONCE]) {
#pragma unroll
    for (int i = 0; i < SQUARES_AT_ONCE; i++)
        v[i] = ptx_load_relaxed(s.m->squares + b * SQUARES +
                                min((int)threadIdx.x % 32 + 32 * (from + i), (int)SQUARES - 1));
}
// A warp for each sequence; v: what it has been asked for already.
DEVICE void take_squares(const step &s, unsigned bit, int b, unsigned (&v)[SQUARES_AT_ONCE],
                         scales &c) {
    float sum = 0.0f;
#pragma unroll 1
    for (int from = 0; from < EACH_SQUARE; from += SQUARES_AT_ONCE) {
        if (from) ask_squares(s, b, from, v);
        for (bool all = false; !all;) {
            unsigned old = 0;
#pragma unroll
            for (int i = 0; i < SQUARES_AT_ONCE; i++) old |= v[i] ^ bit;
            all = !(old & 1);
            if (!all) spin_yield(), ask_squares(s, b, from, v);
        }
#pragma unroll
        for (int i = 0; i < SQUARES_AT_ONCE; i++)
            if ((int)threadIdx.x % 32 + 32 * (from + i) < SQUARES) sum += value(v[i]);
    }
    __syncwarp();
#pragma unroll
    for (int lane = 16; lane; lane /= 2) sum += __shfl_xor_sync(~0u, sum, lane);
    set_scales(s, c, b, sum);
}
DEVICE void stage_normed(const step &s, unsigned bit, element *x, scales &c) {
    const int warp = threadIdx.x / 32;
    unsigned v[SQUARES_AT_ONCE];
    dawdle(s, 0);
    if (warp < BATCH) ask_squares(s, warp, 0, v);
    take_quads<OF_NORMED>(s.m->handed, bit, 0, HIDDEN, x);
#pragma unroll 1
    for (int b = warp; b < BATCH; b += WARPS) {
        if (b >= WARPS) ask_squares(s, b, 0, v);
        take_squares(s, bit, b, v, c);
    }
    meet();
}

// The same of the first layer, whose residual is the tokens' embeddings: every warp finds every
// sequence's sum, and has a part of its elements.
DEVICE void stage_embedding(const step &s, element *x, scales &c) {
    const int lane = threadIdx.x % 32;
    const uint4 *weights = (const uint4 *)(s.m->layers + AT_INPUT_NORM);
#pragma unroll 1
    for (int b = 0; b < BATCH; b++) {
        const uint4 *row = (const uint4 *)(s.m->embedding + (long long)s.m->token[b] * HIDDEN);
        float f[8], weight[8], sum = 0.0f;
#pragma unroll 4
        for (int at = lane; at < HIDDEN / 8; at += 32) {
            unpack<E>(row[at], f);
#pragma unroll
            for (int k = 0; k < 8; k++) sum += f[k] * f[k];
        }
        __syncwarp();
#pragma unroll
        for (int other = 16; other; other /= 2) sum += __shfl_xor_sync(~0u, sum, other);
        const float scale = rsqrtf(sum / HIDDEN + s.m->eps) / NORM_ROOM;
        for (int at = (int)threadIdx.x; at < HIDDEN / 8; at += CONSUMERS) {
            uint4 word;
            unpack<E>(row[at], f), unpack<E>(weights[at], weight);
#pragma unroll
            for (int k = 0; k < 8; k++) f[k] *= scale * weight[k];
            pack<E>(f, word);
            put_activations(x + b * of_kind<OF_NORMED>::STRIDE, at, word);
        }
        if (threadIdx.x == 0) c.left_out[b] = NORM_ROOM, c.handed_on[b] = scale;
        __syncwarp();
    }
    meet();
}

// This warp's columns of a tile, 64 at a time, times the activations of two sequences at a time.
//
// A product's first operand has 16 rows, a unit 8: so rows 8 to 15 are the same rows at other
// columns. A lane's 16 bytes of a row, words x, y, z, w of two elements, are the operand as they
// come: x and z of row g, y and w of "row g + 8". Each finds its activations in a column of the
// second operand of its own: columns 0 and 1 have those of a half of the 64, 2 and 3 those of the
// other, 4 to 7 the same of another sequence. What does not belong together is multiplied too, and
// left where nobody looks. Rows lie a multiple of 128 bytes apart, so lanes of odd rows read the
// other half of the 64 columns first: then no two of 8 lanes share a bank.
enum {
    SIDES = (BATCH + 1) / 2, // second operands
    MOST_AT_ONCE = WARPS <= 8    ? 4
                   : WARPS <= 12 ? 3
                                 : 2,
};
template <int INPUTS> struct columns_of {
    enum {
        WIDTH = DECODE_STEP_WIDTH(INPUTS),
        MINE = (WIDTH / 64 + WARPS - 1) / WARPS,
        AT_ONCE = MINE < MOST_AT_ONCE ? MINE : MOST_AT_ONCE, // as far as registers go
        // Nobody's are fewer, nor is anybody's last part of them.
        EVEN = WIDTH / 64 % WARPS == 0 && MINE % AT_ONCE == 0 && INPUTS % WIDTH == 0,
    };
};
// Whether a tile of so many columns has column `at` of chunk j.
template <int INPUTS> DEVICE bool has_column(int j, int at, int columns) {
    typedef columns_of<INPUTS> C;
    return C::EVEN || (j < C::WIDTH / 64 && 64 * j + (INPUTS % 64 ? at : 0) < columns);
}
template <int INPUTS, int STRIDE>
DEVICE void load_activations(const element *x, int from, int columns,
                             uint2 (&v)[columns_of<INPUTS>::AT_ONCE][SIDES]) {
    typedef columns_of<INPUTS> C;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const element *row = x + lane / 16 * STRIDE + lane % 16 * 4;
#pragma unroll
    for (int i = 0; i < C::AT_ONCE; i++) {
        const int j = warp + (from + i) * WARPS;
        const bool has = has_column<INPUTS>(j, lane / 8 % 2 * 32 + lane % 4 * 8, columns);
#pragma unroll
        for (int p = 0; p < SIDES; p++) {
            v[i][p] = make_uint2(0, 0);
            if (has && (BATCH % 2 == 0 || 2 * p + lane / 16 < BATCH))
                v[i][p] = *(const uint2 *)(row + 2 * p * STRIDE + 64 * j);
        }
    }
}
template <int INPUTS>
DEVICE void multiply_tile(const char *tile, int from, int columns,
                          const uint2 (&v)[columns_of<INPUTS>::AT_ONCE][SIDES],
                          float (&d)[2][SIDES][4]) {
    typedef columns_of<INPUTS> C;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const char *row = tile + g * (C::WIDTH * 2);
    uint4 w[C::AT_ONCE][2];
#pragma unroll
    for (int i = 0; i < C::AT_ONCE; i++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int j = warp + (from + i) * WARPS, at = 32 * ((g + h) % 2) + 8 * t;
            w[i][h] = make_uint4(0, 0, 0, 0);
            if (has_column<INPUTS>(j, at, columns))
                w[i][h] = *(const uint4 *)(row + 2 * (64 * j + at));
        }
#pragma unroll
    for (int i = 0; i < C::AT_ONCE; i++)
#pragma unroll
        for (int p = 0; p < SIDES; p++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                uint32_t a[4] = {w[i][h].x, w[i][h].y, w[i][h].z, w[i][h].w};
                uint32_t b[2] = {v[i][p].x, v[i][p].y};
                ptx_mma<DTYPE>(d[h][p], a, b);
            }
}
// Of what multiply_tile() left: row lane / 4, sequence 2 side + lane % 4 / 2; all lanes together.
DEVICE float product_of(const float (&d)[2][SIDES][4], int side) {
    const int lane = threadIdx.x % 32;
    const float one = d[0][side][0] + d[0][side][3], two = d[1][side][0] + d[1][side][3];
    const float half = (lane / 4 + lane) % 2 ? two : one;
    return half + __shfl_xor_sync(~0u, half, 1);
}

// What a row's sum is added to: asked for when a group of units begins, waited for at its end.
struct base {
    unsigned word;
    float bias;
};
template <int KIND>
DEVICE base ask_base(const step &s, int kind, const element *w, bool first_layer, int row, int b) {
    base v = {0, 0.0f};
    if (KIND == OF_NORMED && QKV_BIAS && kind == OF_QKV) v.bias = E::load(w[AT_QKV_BIAS + row]);
    if (KIND == OF_OUT && O_BIAS) v.bias = E::load(w[AT_O_BIAS + row]);
    if (KIND == OF_OUT && first_layer)
        v.word = mark(E::load(s.m->embedding[(long long)s.m->token[b] * HIDDEN + row]), 0);
    else if (KIND == OF_OUT || KIND == OF_DOWN)
        v.word = ptx_load_relaxed(s.m->residual + b * HIDDEN + row);
    return v;
}
template <int KIND> DEVICE float take_base(const step &s, base v, int row, int b) {
    const bool adds = KIND != OF_NORMED;
    while (adds && (v.word ^ (unsigned)(KIND == OF_DOWN)) & 1)
        spin_yield(), v.word = ptx_load_relaxed(s.m->residual + b * HIDDEN + row);
    return adds ? value(v.word) + v.bias : v.bias;
}
// Where it goes: of the residual's words the bits are 1 and 0 in turn, of what is written once a
// layer that of the layer's number. All lanes of a warp together, 8 of them a unit's rows.
template <int KIND> DEVICE void put_row(const step &s, int kind, int row, int b, float sum,
                                        float up, float weight, bool valid) {
    const model &m = *s.m;
    if (KIND != OF_NORMED) {
        const unsigned bit = KIND == OF_OUT;
        if (valid) ptx_store_relaxed(m.residual + b * HIDDEN + row, mark(sum, bit));
        put_quad(m.handed + (b * HIDDEN + row) / 4, sum * weight, bit, valid);
        float square = sum * sum;
#pragma unroll
        for (int lane = 4; lane; lane /= 2) square += __shfl_xor_sync(~0u, square, lane);
        if (valid && row % 8 == 0)
            ptx_store_relaxed(m.squares + (b * HIDDEN + row) / 8, mark(square, bit));
    } else if (kind == OF_GATE_UP) {
        put_quad(m.product + (b * INTERMEDIATE + row) / 4, sum / (1.0f + __expf(-sum)) * up,
                 s.number & 1, valid);
    } else if (valid) {
        if (kind == OF_HEAD) m.logits[b * m.vocab + row] = sum;
        if (kind == OF_QKV) ptx_store_relaxed(m.qkv + b * QKV + row, mark(sum, s.number & 1));
    }
}

// What the warps have of a row of a unit, of one sequence.
DEVICE float sum_warps(const float *part) {
    float sum = 0.0f;
#pragma unroll
    for (int w = 0; w < WARPS; w++) sum += part[w * BATCH * ROWS];
    return sum;
}

// `held` units of this block, `first` and those that follow it, times the columns in x; part: their
// sums, of each warp, to which those of a piece that is not the first are added.
template <int KIND> DEVICE void multiply_units(ring &r, int held, int from, int end, bool add,
                                               const element *x, float *part) {
    typedef of_kind<KIND> K;
    typedef columns_of<K::INPUTS> C;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int begin = K::PIECES > 1 ? from : 0, after = K::PIECES > 1 ? end : (int)K::INPUTS;
#pragma unroll 1
    for (int h = 0; h < held; h++) {
        float d[2][SIDES][4];
#pragma unroll
        for (int i = 0; i < 2 * SIDES * 4; i++) d[i % 2][i / 8][i / 2 % 4] = 0.0f;
#pragma unroll 4
        for (int c = begin; c < after; c += K::WIDTH) {
            const int columns = min((int)K::WIDTH, (int)K::INPUTS - c);
            uint2 v[C::AT_ONCE][SIDES];
            load_activations<K::INPUTS, K::STRIDE>(x + (c - begin), 0, columns, v);
            ptx_barrier_wait(&r.full[r.stage], r.turn & 1);
#pragma unroll
            for (int first = 0; first < C::MINE; first += C::AT_ONCE) {
                if (first)
                    load_activations<K::INPUTS, K::STRIDE>(x + (c - begin), first, columns, v);
                multiply_tile<K::INPUTS>(tile_of(r), first, columns, v, d);
            }
            __syncwarp();
            if (lane == 0) ptx_barrier_arrive(&r.empty[r.stage]);
            next(r);
        }
#pragma unroll
        for (int p = 0; p < SIDES; p++) {
            const int b = 2 * p + lane % 4 / 2;
            float *to = part + ((h * WARPS + warp) * BATCH + b) * ROWS + lane / 4;
            const float sum = product_of(d, p);
            if (lane % 2 == 0 && b < BATCH) *to = K::PIECES > 1 && add ? *to + sum : sum;
        }
    }
}

// The weights of the norm that comes next, of a group's rows: on their way while its product is
// made, in nobody's register, so that no other load is waited for with them.
template <int KIND>
DEVICE void ask_weights(const step &s, const element *w, int first, int held, element *weights) {
    const int t = (int)threadIdx.x;
    if (KIND == OF_NORMED || t >= held) return;
    const element *norm = KIND == OF_OUT   ? w + AT_POST_NORM
                          : w == s.m->last ? s.m->final_norm
                                           : w + LAYER_ELEMENTS + AT_INPUT_NORM;
    ptx_copy_async(weights + t * ROWS, norm + (first + t * (int)gridDim.x) * ROWS, true);
}

// All units of this block, HELD at a time; w: the layer's weights. While some threads put a group's
// sums together the others go on: groups keep theirs in two places in turn.
template <int KIND> DEVICE void multiply_matrix(step &s, ring &r, int kind, const element *w,
                                                bool first_layer, element *x, float *part,
                                                const scales &c) {
    typedef of_kind<KIND> K;
    // Rows of a unit that go out: 8, or of gate and up together 4.
    const int shift = KIND == OF_NORMED && kind == OF_GATE_UP ? 2 : 3, out = 1 << shift;
    const int lane = threadIdx.x % 32, t = (int)threadIdx.x, grid = (int)gridDim.x;
    const int units = s.m->matrices[kind].units, start = first_unit(s);
    int turn = 0;
#pragma unroll 1
    for (int first = start; first < units; first += HELD * grid, turn ^= 1) {
        float *mine = part + turn * PART;
        element *weights = (element *)(part + 2 * PART) + turn * HELD * ROWS;
        const int held = min((int)HELD, (units - first + grid - 1) / grid);
        const int all = held * out * BATCH;
        base early = {0, 0.0f}; // of this thread's first row
        ask_weights<KIND>(s, w, first, held, weights);
        if (t < all)
            early = ask_base<KIND>(s, kind, w, first_layer,
                                   (first + (t >> shift) / BATCH * grid) * out + (t & (out - 1)),
                                   (t >> shift) % BATCH);
#pragma unroll 1
        for (int piece = 0; piece < K::PIECES; piece++) {
            const int from = K::TILES * piece / K::PIECES * K::WIDTH;
            const int end = min(K::TILES * (piece + 1) / K::PIECES * K::WIDTH, (int)K::INPUTS);
            if (K::PLAIN && (K::PIECES > 1 || first == start)) {
                if (piece || first != start) meet();
                dawdle(s, 1);
                take_quads<KIND>(KIND == OF_OUT ? s.m->attention : s.m->product, s.number & 1, from,
                                 end, x);
                meet();
            }
            multiply_units<KIND>(r, held, from, end, piece > 0, x, mine);
        }
        if (K::PLAIN) ptx_copy_wait();
        meet();
        dawdle(s, 2);
#pragma unroll 1
        for (int i = t; i - lane < all; i += CONSUMERS) {
            const int h = (i >> shift) / BATCH, b = (i >> shift) % BATCH;
            const int row = (first + h * grid) * out + (i & (out - 1));
            const float *sums = mine + (h * WARPS * BATCH + b) * ROWS + (i & (out - 1));
            float sum = 0.0f, up = 0.0f, weight = 0.0f;
            if (i < all) {
                sum = sum_warps(sums);
                if (out < ROWS) up = sum_warps(sums + out);
                if (i != t) early = ask_base<KIND>(s, kind, w, first_layer, row, b);
                if (KIND == OF_NORMED) sum *= c.left_out[b], up *= c.left_out[b];
                sum += take_base<KIND>(s, early, row, b);
                if (K::PLAIN) weight = E::load(weights[h * ROWS + row % ROWS]) * c.handed_on[b];
            }
            put_row<KIND>(s, kind, row, b, sum, up, weight, i < all);
        }
    }
    pass(s, units);
}
