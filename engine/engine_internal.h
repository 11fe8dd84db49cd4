/* engine_internal.h - what the engine's files share: buffers, and the programs over them. */
#ifndef FASTINFER_ENGINE_INTERNAL_H
#define FASTINFER_ENGINE_INTERNAL_H

#include "engine/engine.h"
#include "runtime/matmul.h"

enum {
    MAX_BATCH = 16,
    MAX_BUCKETS = 24,   /* contexts that decode programs are made for */
    FIRST_BUCKET = 128, /* positions; each next one is twice as long */
    PROMPT_GRAPHS = 16, /* parts of prompts that are remembered */
    SETTING_WORDS = 8,  /* of a sequence, as kernels/sample/sample.c has them */
};

/* Buffers of a forward pass over some rows. */
struct workspace {
    void *residual;   /* (rows, hidden) fp32 */
    void *normed;     /* (rows, hidden) D; prefill only */
    void *qkv;        /* (rows, q + 2 kv) fp32 in decode, D in prefill */
    void *q;          /* (rows, q) D; prefill only */
    void *attention;  /* (rows, q) D */
    void *gate_up;    /* (rows, 2 intermediate) D; prefill only */
    void *activation; /* (rows, intermediate) D */
};

/* Rows [start, start + rows) of a sequence's prompt as one graph, made when they come again:
 * between launches one by one the GPU waits, and a prompt has nine a layer. */
struct prompt_graph {
    int sequence;
    int64_t start, rows, used; /* rows 0: free; used: of the engine's count, when last */
    struct graph *graph;       /* NULL: came once so far */
};

struct engine {
    struct device *device;
    const struct model *model;
    struct weights *weights;
    struct shelf *shelf;
    struct matmul *matmul;
    int batch;
    int64_t capacity, prefill_rows;
    enum dtype dtype;
    size_t cache_bytes, work_bytes;

    void **buffer; /* every allocation beside the weights, for closing */
    int buffers, buffer_room;
    struct workspace step, prefill;
    void *logits, *token, *position, *history, *setting, *inv_freq;
    void *facts; /* (layers, 3) int32, as decode_step has them */
    bool persistent;
    enum step_form form; /* as it was asked for */
    void *ones; /* (prefill_rows) D, for a bias on the output projection; NULL without one */
    void **cache_k, **cache_v; /* a layer */

    int64_t filled[MAX_BATCH]; /* positions, counting what is enqueued */
    int32_t *staging;          /* ids on their way to the device, (batch, capacity) */
    struct program *decode[MAX_BUCKETS];
    struct program *choose[MAX_BATCH]; /* the end of a prefill: head and choice for one sequence */
    struct prompt_graph prompt[PROMPT_GRAPHS];
    int64_t prompts; /* parts of prompts so far */
    bool no_prompt_graphs;
};

/* Rows `row` to the end of one of the engine's arrays of `width` elements a row. */
static inline void *rows_from(void *array, int64_t row, int64_t width, enum dtype dtype) {
    return array ? (char *)array + (size_t)(row * width) * dtype_bytes(dtype) : NULL;
}

/* Appends the launches of a decode step: sequences [first, first + count), each of whose context
 * is at most `context`. */
struct step_range {
    int first, count;
    int64_t context;
    bool silent; /* no logits, no choice: tokens and positions stay */
};
enum status step_build(struct engine *engine, const struct step_range *range,
                       struct program *program);
/* The end of a step alone: residual rows -> logits -> token, for `count` sequences from `first` on;
 * `residual` holds their rows. */
enum status step_choose(struct engine *engine, const struct step_range *range, void *residual,
                        struct program *program);
/* The choice alone: logits -> token. */
enum status step_sample(struct engine *engine, const struct step_range *range,
                        struct program *program);

/* Is a step one kernel? */
enum status persistent_decide(const struct engine *engine, enum step_form form, bool *out);
/* Appends it: token -> logits, of the one sequence. */
enum status persistent_build(struct engine *engine, struct program *program);
enum status persistent_facts(struct engine *engine, int delay_ns);

/* Rows `first` to the end of a decode step's buffers. */
struct workspace step_rows(const struct engine *engine, int first);

/* Takes `count` ids, already in the engine's history, through the model into a sequence's caches
 * from position 0 on; *last is the last one's residual. */
enum status prefill_run(struct engine *engine, int sequence, int64_t count, void **last);
/* Frees the graphs of prompts, none of which may be running. */
void prefill_forget(struct engine *engine);
/* The same position by position, as decode steps: where nobody multiplies matrices. */
enum status prefill_by_steps(struct engine *engine, int sequence, const int32_t *ids, int64_t count,
                             void **last);

#endif
