// heads.inl - attention: a block's run of positions of a key head, for all its query heads.
//
// A key head's positions are split into runs where they are many. Then every block of the head puts
// a part of the dimensions together, of all runs; so nobody merges for long, and what a run hands
// on takes one way through memory. Its words are 64 bits: a float and the layer's number.
// One head of qkv, normed and turned by one warp; a lane has pairs lane and lane + 32 (PAIRS of
// them), first elements in a, partners in b.
DEVICE void make_head(const step &s, const unsigned *raw, const element *norm, const float2 *turn,
                      float *a, float *b) {
    int lane = threadIdx.x % 32;
    float sum = 0.0f, weight[PAIRS][2];
    for (bool all = false; !all;) {
        unsigned old = 0;
#pragma unroll
        for (int i = 0; i < PAIRS; i++) {
            const unsigned one = ptx_load_relaxed(raw + lane + 32 * i);
            const unsigned two = ptx_load_relaxed(raw + lane + 32 * i + HEAD_DIM / 2);
            a[i] = value(one), b[i] = value(two);
            old |= (one ^ s.number) | (two ^ s.number);
        }
        all = !(old & 1);
        if (!all) spin_yield();
    }
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        const int d = lane + 32 * i;
        sum += a[i] * a[i] + b[i] * b[i];
        if (QK_NORM && norm)
            weight[i][0] = E::load(norm[d]), weight[i][1] = E::load(norm[d + HEAD_DIM / 2]);
    }
    __syncwarp();
    if (QK_NORM && norm) {
#pragma unroll
        for (int i = 16; i; i /= 2) sum += __shfl_xor_sync(~0u, sum, i);
        float scale = rsqrtf(sum / HEAD_DIM + s.m->eps);
#pragma unroll
        for (int i = 0; i < PAIRS; i++) a[i] *= scale * weight[i][0], b[i] *= scale * weight[i][1];
    }
    if (!turn) return;
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        float2 by = turn[lane + 32 * i];
        float x = a[i], y = b[i];
        a[i] = x * by.x - y * by.y, b[i] = y * by.x + x * by.y;
    }
}

// The query heads of a key head into q (GROUP, HEAD_DIM), scaled for exp2; of the last run also our
// own key and value, rounded as the cache has them, into k and v and the cache.
DEVICE void stage_heads(const step &s, const run_of &a, long long layer, float *q) {
    const element *w = s.m->layers + layer * LAYER_ELEMENTS;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const float score = 1.44269504f / sqrtf((float)HEAD_DIM);
    const bool own = a.split == a.splits - 1;
    const float2 *turn = s.turns ? s.m->turn + a.sequence * (HEAD_DIM / 2) : nullptr;
    element *k = (element *)(q + GROUP * HEAD_DIM), *v = k + HEAD_DIM;
    float x[PAIRS], y[PAIRS];
    long long at = cache_of(s, a, layer) + (long long)a.position * HEAD_DIM;
#pragma unroll 1
    for (int i = warp; i < GROUP + (own ? 2 : 0); i += WARPS) {
        int kind = i < GROUP ? 0 : i - GROUP + 1; // a query head, the key, the value
        long long raw =
            kind == 0 ? (a.head * GROUP + i) * HEAD_DIM : Q + (kind - 1) * KV + a.head * HEAD_DIM;
        make_head(s, s.m->qkv + (long long)a.sequence * QKV + raw,
                  kind == 0   ? w + AT_Q_NORM
                  : kind == 1 ? w + AT_K_NORM
                              : nullptr,
                  kind < 2 ? turn : nullptr, x, y);
#pragma unroll
        for (int p = 0; p < PAIRS; p++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int d = lane + 32 * p + half * (HEAD_DIM / 2);
                float f = half ? y[p] : x[p];
                element e = E::store(f);
                if (kind == 0) q[i * HEAD_DIM + d] = f * score;
                if (kind == 1) k[d] = s.m->cache_k[at + d] = e;
                if (kind == 2) v[d] = s.m->cache_v[at + d] = e;
            }
    }
    meet();
}

// Positions that a lane sees side by side: two, where registers and a tile's positions allow.
enum { AT_ONCE = WARPS <= 12 && POSITIONS % (2 * SLOTS) == 0 ? 2 : 1 };

struct softmax { // of the positions that LANES lanes have seen: a lane has 8 of the dimensions
    float greatest[GROUP], weight[GROUP], sum[GROUP][8];
};

// AT_ONCE positions more, those that are `valid`. A position's lanes call it together; q: this
// lane's 8 dimensions of the first query head, in shared memory. Heads and positions go side by
// side, without a branch: each is a chain of dependent steps.
DEVICE void see(softmax &m, const float *q, const uint4 (&key)[AT_ONCE],
                const uint4 (&value_)[AT_ONCE], const bool (&valid)[AT_ONCE]) {
    enum { SIDE = GROUP <= 3 ? GROUP : 2 }; // heads side by side, as far as registers go
    float k[AT_ONCE][8], v[AT_ONCE][8];
#pragma unroll
    for (int j = 0; j < AT_ONCE; j++) unpack<E>(key[j], k[j]), unpack<E>(value_[j], v[j]);
#pragma unroll
    for (int from = 0; from < GROUP; from += SIDE) {
        float score[SIDE][AT_ONCE];
#pragma unroll
        for (int n = 0; n < SIDE; n++) {
            const int g = min(from + n, GROUP - 1);
            const float4 one = *(const float4 *)(q + g * HEAD_DIM);
            const float4 two = *(const float4 *)(q + g * HEAD_DIM + 4);
#pragma unroll
            for (int j = 0; j < AT_ONCE; j++)
                score[n][j] =
                    (one.x * k[j][0] + one.y * k[j][1] + one.z * k[j][2] + one.w * k[j][3]) +
                    (two.x * k[j][4] + two.y * k[j][5] + two.z * k[j][6] + two.w * k[j][7]);
        }
#pragma unroll
        for (int lane = LANES / 2; lane; lane /= 2)
#pragma unroll
            for (int n = 0; n < SIDE; n++)
#pragma unroll
                for (int j = 0; j < AT_ONCE; j++)
                    score[n][j] += __shfl_xor_sync(~0u, score[n][j], lane);
#pragma unroll
        for (int n = 0; n < SIDE && from + n < GROUP; n++) {
            const int g = from + n;
            float greatest = m.greatest[g], p[AT_ONCE];
#pragma unroll
            for (int j = 0; j < AT_ONCE; j++) {
                if (!valid[j]) score[n][j] = LEAST;
                greatest = fmaxf(greatest, score[n][j]);
            }
            const float base = greatest == LEAST ? 0.0f : greatest;
            const float fade = ptx_exp2(m.greatest[g] - base);
            m.greatest[g] = greatest, m.weight[g] *= fade;
#pragma unroll
            for (int j = 0; j < AT_ONCE; j++)
                p[j] = ptx_exp2(score[n][j] - base), m.weight[g] += p[j];
#pragma unroll
            for (int i = 0; i < 8; i++) {
                m.sum[g][i] *= fade;
#pragma unroll
                for (int j = 0; j < AT_ONCE; j++) m.sum[g][i] += p[j] * v[j][i];
            }
        }
    }
}

DEVICE void join(softmax &m, int lane) { // with the lane that has the same dimensions elsewhere
#pragma unroll
    for (int g = 0; g < GROUP; g++) {
        float other = __shfl_xor_sync(~0u, m.greatest[g], lane);
        float greatest = fmaxf(m.greatest[g], other);
        float mine = greatest == m.greatest[g] ? 1.0f : ptx_exp2(m.greatest[g] - greatest);
        m.greatest[g] = greatest;
        m.weight[g] *= mine, m.weight[g] += __shfl_xor_sync(~0u, m.weight[g], lane);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            m.sum[g][i] *= mine;
            m.sum[g][i] += __shfl_xor_sync(~0u, m.sum[g][i], lane);
        }
    }
}

// The run's positions, CHUNK after another, go round the warps; so does our own position, which
// comes last, of the head's last run.
DEVICE void see_tiles(const run_of &a, ring &r, const float *q, softmax &m) {
    enum { CHUNK = SLOTS * AT_ONCE, CHUNKS = POSITIONS / CHUNK };
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int chunk = warp, seen = 0;
#pragma unroll 1
    for (int tile = a.first; tile < a.last; tile++) {
        const int rows = min((int)POSITIONS, a.old - tile * POSITIONS);
        const int end = (rows + CHUNK - 1) / CHUNK;
        ptx_barrier_wait(&r.full[r.stage], r.turn & 1);
#pragma unroll 1
        for (; chunk - seen < end; chunk += WARPS) {
            uint4 k[AT_ONCE], v[AT_ONCE];
            bool valid[AT_ONCE];
#pragma unroll
            for (int j = 0; j < AT_ONCE; j++) {
                const int row = (chunk - seen) * CHUNK + j * SLOTS + lane / LANES;
                const uint4 *at = (const uint4 *)tile_of(r) + row * LANES + lane % LANES;
                valid[j] = row < rows, k[j] = v[j] = make_uint4(0, 0, 0, 0);
                if (valid[j]) k[j] = at[0], v[j] = at[POSITIONS * LANES];
            }
            see(m, q, k, v, valid);
        }
        seen += end;
        __syncwarp();
        if (lane == 0) ptx_barrier_arrive(&r.empty[r.stage]);
        next(r);
    }
    if (chunk == seen && a.split == a.splits - 1) {
        const uint4 *own =
            (const uint4 *)(q + (GROUP * HEAD_DIM - lane % LANES * 8)) + lane % LANES;
        uint4 k[AT_ONCE], v[AT_ONCE];
        bool valid[AT_ONCE];
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++)
            valid[j] = j == 0 && lane < LANES, k[j] = own[0], v[j] = own[LANES];
        see(m, q, k, v, valid);
    }
}

// One element of a head's run: the sum of its weighted values, the run's greatest score and weight.
struct part_of {
    float sum, greatest, weight;
};
// What the warps of a block have of element d.
DEVICE part_of join_warps(const float *run, int d) {
    float most = LEAST, all = 0.0f, sum = 0.0f;
#pragma unroll
    for (int i = 0; i < WARPS; i++) most = fmaxf(most, run[i * GROUP * RUN + HEAD_DIM]);
#pragma unroll
    for (int i = 0; i < WARPS; i++) {
        const float *at = run + i * GROUP * RUN;
        float scale = at[HEAD_DIM] == LEAST ? 0.0f : ptx_exp2(at[HEAD_DIM] - most);
        all += scale * at[HEAD_DIM + 1], sum += scale * at[d];
    }
    return {sum, most, all};
}

// A run's words in memory, each with the layer's number beside it.
DEVICE void put_part(const step &s, uint2 *run, int d, part_of part) {
    ptx_store_relaxed(run + d, make_uint2(__float_as_uint(part.sum), s.number));
    if (d) return;
    ptx_store_relaxed(run + HEAD_DIM, make_uint2(__float_as_uint(part.greatest), s.number));
    ptx_store_relaxed(run + HEAD_DIM + 1, make_uint2(__float_as_uint(part.weight), s.number));
}

// The 6 words that lane i needs of run i: 4 dimensions, the greatest score and the weight.
DEVICE void take_run(const step &s, const uint2 *run, int d, float *f) {
    uint4 v[3];
    const uint4 *from[3] = {(const uint4 *)(run + d), (const uint4 *)(run + d + 2),
                            (const uint4 *)(run + HEAD_DIM)};
    for (bool all = false; !all;) {
        unsigned old = 0;
#pragma unroll
        for (int i = 0; i < 3; i++) v[i] = ptx_load_relaxed_pair(from[i]);
#pragma unroll
        for (int i = 0; i < 3; i++) old |= (v[i].y ^ s.number) | (v[i].w ^ s.number);
        all = !old;
        if (!all) spin_yield();
    }
#pragma unroll
    for (int i = 0; i < 3; i++)
        f[2 * i] = __uint_as_float(v[i].x), f[2 * i + 1] = __uint_as_float(v[i].z);
}

// This block's share of a head group's dimensions, of all runs, 4 dimensions a warp; a lane has a
// run.
DEVICE void join_runs(const step &s, const run_of &a, const uint2 *runs, uint2 *out) {
    enum { QUADS = GROUP * HEAD_DIM / 4 };
    const int lane = threadIdx.x % 32, end = QUADS * (a.split + 1) / a.splits;
#pragma unroll 1
    for (int i = QUADS * a.split / a.splits + (int)threadIdx.x / 32; i < end; i += WARPS) {
        const int g = i / (HEAD_DIM / 4), d = i % (HEAD_DIM / 4) * 4;
        float f[6] = {0, 0, 0, 0, LEAST, 0};
        if (lane < a.splits) take_run(s, runs + (long long)(lane * GROUP + g) * RUN, d, f);
        __syncwarp();
        float most = f[4];
#pragma unroll
        for (int other = 16; other; other /= 2)
            most = fmaxf(most, __shfl_xor_sync(~0u, most, other));
        const float scale = f[4] == LEAST ? 0.0f : ptx_exp2(f[4] - most);
        f[4] = f[5];
#pragma unroll
        for (int k = 0; k < 5; k++) f[k] *= scale;
#pragma unroll
        for (int other = 16; other; other /= 2)
#pragma unroll
            for (int k = 0; k < 5; k++) f[k] += __shfl_xor_sync(~0u, f[k], other);
        const float mine = lane == 0 ? f[0] : lane == 1 ? f[1] : lane == 2 ? f[2] : f[3];
        put_quad(out + i, mine / f[4], s.number & 1, lane < 4);
    }
}

// What this block has seen of a head group, and its share of what all blocks have.
DEVICE void finish_run(const step &s, const run_of &a, const float *own_runs) {
    const long long head = (long long)a.sequence * KV_HEADS + a.head;
    uint2 *runs = s.m->runs + head * most_splits() * GROUP * RUN;
    uint2 *out = s.m->attention + head * (GROUP * HEAD_DIM / 4);
    dawdle(s, 3);
#pragma unroll 1
    for (int i = threadIdx.x; i < GROUP * HEAD_DIM; i += CONSUMERS) {
        const int g = i / HEAD_DIM, d = i % HEAD_DIM;
        const part_of part = join_warps(own_runs + g * RUN, d);
        if (a.splits > 1)
            put_part(s, runs + (a.split * GROUP + g) * RUN, d, part);
        else
            put_quad(out + i / 4, part.sum / part.weight, s.number & 1, true);
    }
    if (a.splits > 1) join_runs(s, a, runs, out);
    if (threadIdx.x == 0 && a.split == a.splits - 1) ptx_add_relaxed(s.m->heads, 1);
}

DEVICE void attend(const step &s, ring &r, long long layer, float *work) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, units = attention_units(s);
    float *staged = work, *own_runs = work + (GROUP + 2) * HEAD_DIM;
    if ((int)blockIdx.x < units)
        wait_for(s.m->count, ((unsigned)layer * MATRICES + 1) * gridDim.x, gridDim.x);
#pragma unroll 1
    for (int u = (int)blockIdx.x; u < units; u += (int)gridDim.x) {
        run_of a = attention_run(s, u);
        softmax m;
        stage_heads(s, a, layer, staged);
#pragma unroll
        for (int g = 0; g < GROUP; g++) {
            m.greatest[g] = LEAST, m.weight[g] = 0.0f;
#pragma unroll
            for (int i = 0; i < 8; i++) m.sum[g][i] = 0.0f;
        }
        const float *q = staged + lane % LANES * 8;
        see_tiles(a, r, q, m);
        for (int other = LANES; other < 32; other *= 2) join(m, other);
        if (lane < LANES)
#pragma unroll
            for (int g = 0; g < GROUP; g++) {
                float *to = own_runs + (warp * GROUP + g) * RUN;
#pragma unroll
                for (int i = 0; i < 8; i++) to[lane * 8 + i] = m.sum[g][i];
                if (lane == 0) to[HEAD_DIM] = m.greatest[g], to[HEAD_DIM + 1] = m.weight[g];
            }
        meet();
        finish_run(s, a, own_runs);
        if (u + (int)gridDim.x < units) meet();
    }
}
