// words.inl - what one phase hands to the next: words whose lowest bit says whether they are new.
//
// A word is written again only when all have read it: who writes one has, through what the phases
// between made of it, had to do with everybody who reads it. So between two writes the bit need
// only change. That holds as long as every block has a unit of every matrix: the grid is no larger.
// Counters say when it is worth looking; they prove nothing.
//
//   word   32 bits, a float of 23
//   quad   64 bits, 4 elements of 16, the first of them rounded to an even one
//
// All accesses are relaxed: between a block's reads and the writes that follow from them stands a
// barrier, and a value is written where it has been computed from. A block that skips a head in one
// layer (a window) may first look at its words in the next: those of the layer between have long
// reached L2, several phases lie between.
//
// What a head's runs hand on has a number beside it instead: see heads.inl.
DEVICE void meet() { ptx_named_barrier(1, CONSUMERS); }

// Where a test asks for delays: each warp comes at a time of its own.
DEVICE void dawdle(const step &s, int place) {
    if (!s.delay) return;
    unsigned h = (blockIdx.x * 31 + threadIdx.x / 32) * 2654435761u;
    h = (h ^ (unsigned)(s.m->position[0] * 401 + s.number * 16 + place)) * 2246822519u;
    for (unsigned left = (h ^ h >> 15) % s.delay; left; left--) __nanosleep(16);
}

// Until a counter says that it is worth looking: all but EARLY eighths of `more`, the last phase's,
// have come.
DEVICE void wait_for(const unsigned *count, unsigned enough, unsigned more) {
    enough -= more * EARLY / 8;
    if (threadIdx.x == 0)
        while ((int)(ptx_load_relaxed(count) - enough) < 0) spin_yield();
    meet();
}

DEVICE unsigned mark(float f, unsigned bit) { return (__float_as_uint(f) & ~1u) | bit; }
DEVICE float value(unsigned word) { return __uint_as_float(word & ~1u); } // whatever the bit
// Lowest bit 1 where one of them is old.
DEVICE unsigned old_words(uint4 v, unsigned bit) {
    return (v.x ^ bit) | (v.y ^ bit) | (v.z ^ bit) | (v.w ^ bit);
}
DEVICE unsigned old_quads(uint4 v, unsigned bit) { return (v.x ^ bit) | (v.z ^ bit); }

// The even one of the two elements that f lies between.
DEVICE unsigned even_element(float f) {
    unsigned bits = E::store(f).bits;
    if (bits & 1) {
        element e;
        e.bits = (unsigned short)bits;
        bits += fabsf(f) > fabsf(E::load(e)) ? 1u : ~0u;
    }
    return bits;
}

// The elements of four lanes, the first a multiple of four, as a quad. All lanes of a warp
// together; `to` is that of the first of the four, `valid` that of all.
DEVICE void put_quad(uint2 *to, float f, unsigned bit, bool valid) {
    const bool first = threadIdx.x % 4 == 0;
    const unsigned mine = first ? even_element(f) | bit : (unsigned)E::store(f).bits;
    const unsigned low = mine | __shfl_down_sync(~0u, mine, 1) << 16;
    const unsigned high = __shfl_down_sync(~0u, low, 2);
    if (first && valid) ptx_store_relaxed(to, make_uint2(low, high));
}
