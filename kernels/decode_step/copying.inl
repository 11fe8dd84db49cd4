// copying.inl - the warp that fills the ring: all weights that the block will need, its keys and
// values, in the order in which they are used.
// All lanes see the room before any fills it: one that looked two phases late would wait for ever.
//
// No more than FLIGHT tiles are on their way at once. All that is, of all blocks, queues before
// whatever else needs memory or L2, so more than keeps the memory busy only makes every word that
// phases hand on come later.
DEVICE void wait_for_room(ring &r) {
    if (FLIGHT < STAGES && r.on_the_way++ == FLIGHT) {
        ptx_barrier_wait(&r.full[r.last_stage], r.last_turn & 1);
        r.on_the_way--;
        if (++r.last_stage == STAGES) r.last_stage = 0, r.last_turn++;
    }
    if (r.turn) ptx_barrier_wait(&r.empty[r.stage], (r.turn - 1) & 1);
    __syncwarp();
}

// Row i of unit u of a matrix: 8 in a row, or, of gate and up, 4 and 4.
DEVICE long long row_of(int kind, int unit, int i) {
    if (kind != OF_GATE_UP) return (long long)unit * ROWS + i;
    return (long long)unit * (ROWS / 2) + (i < ROWS / 2 ? i : INTERMEDIATE + i - ROWS / 2);
}

// As multiply_matrix() takes them: HELD units after one another; of these all tiles of a piece of
// the columns before the next piece's.
DEVICE void copy_matrix(step &s, ring &r, int kind, const element *rows) {
    const int lane = threadIdx.x % 32;
    const matrix m = s.m->matrices[kind];
    const int copies = m.width != m.columns ? (int)ROWS : kind == OF_GATE_UP ? 2 : 1;
    const int row = lane * (ROWS / copies), grid = (int)gridDim.x;
#pragma unroll 1
    for (int first = first_unit(s), piece = 0; first < m.units;) {
        const int from = m.tiles * piece / m.pieces * m.width;
        const int end = min(m.tiles * (piece + 1) / m.pieces * m.width, m.columns);
        const int after = min(first + HELD * grid, m.units);
#pragma unroll 1
        for (int u = first; u < after; u += grid)
#pragma unroll 1
            for (int c = from; c < end; c += m.width) {
                unsigned bytes = (unsigned)min(m.width, m.columns - c) * 2;
                wait_for_room(r);
                if (lane == 0) ptx_barrier_expect(&r.full[r.stage], ROWS * bytes);
                if (lane < copies)
                    ptx_bulk_load<LOAD_HINT>(tile_of(r) + row * (m.width * 2),
                                             rows + row_of(kind, u, row) * m.columns + c,
                                             bytes * (unsigned)(ROWS / copies), &r.full[r.stage]);
                next(r);
            }
        if (++piece == m.pieces) piece = 0, first += HELD * grid;
    }
    pass(s, m.units);
}

DEVICE void copy_cache(const step &s, ring &r, long long layer) {
    int lane = threadIdx.x % 32, units = attention_units(s);
#pragma unroll 1
    for (int u = (int)blockIdx.x; u < units; u += (int)gridDim.x) {
        run_of a = attention_run(s, u);
        long long row = cache_of(s, a, layer) + (long long)a.low * HEAD_DIM;
#pragma unroll 1
        for (int tile = a.first; tile < a.last; tile++) {
            unsigned bytes = (unsigned)min((int)POSITIONS, a.old - tile * POSITIONS) * HEAD_DIM * 2;
            long long at = row + (long long)tile * POSITIONS * HEAD_DIM;
            wait_for_room(r);
            if (lane == 0) {
                ptx_barrier_expect(&r.full[r.stage], 2 * bytes);
                ptx_bulk_load(tile_of(r), s.m->cache_k + at, bytes, &r.full[r.stage]);
                ptx_bulk_load(tile_of(r) + POSITIONS * HEAD_DIM * 2, s.m->cache_v + at, bytes,
                              &r.full[r.stage]);
            }
            next(r);
        }
    }
}

DEVICE void copy_all(step &s, ring &r) {
    const int count = (int)s.m->layer_count * MATRICES + 1;
#pragma unroll 1
    for (int n = 0; n < count; n++) {
        const int layer = n / MATRICES, kind = n < count - 1 ? n % MATRICES : (int)OF_HEAD;
        const matrix &m = s.m->matrices[kind];
        const element *rows = kind == OF_HEAD ? s.m->head : layer_of(s, layer) + m.rows;
        if (kind == OF_QKV) enter_layer(s, layer);
        if (kind == OF_OUT) copy_cache(s, r, layer);
        copy_matrix(s, r, kind, rows);
    }
}
