/* engine.h - a model that answers: prompts in, tokens out, on one device.
 *
 * Up to `batch` sequences live side by side, each with its KV cache of `capacity` positions. A
 * decode step takes every sequence one token further: its pending token is embedded, goes through
 * the layers at its position, and the token chosen from the logits becomes the pending one. Tokens,
 * positions and choices stay on the device, so steps are enqueued without waiting for one another.
 *
 * On the device, D the engine's dtype: residual (batch, hidden) fp32, caches (batch, kv_heads,
 * capacity, head_dim) D a layer, logits (batch, vocab) fp32, history (batch, capacity) int32: the
 * prompt's ids and what followed.
 */
#ifndef FASTINFER_ENGINE_H
#define FASTINFER_ENGINE_H

#include "engine/program.h"
#include "engine/sample.h"
#include "engine/weights.h"

enum step_form { FORM_AUTO, FORM_LAUNCHES, FORM_PERSISTENT };
/* How an engine decodes. */
struct engine_choice {
    const char *configs, *only; /* where points come from: as shelf_select() */
    /* A graph of some launches a layer, or one kernel for the whole step (fp16 or bf16, sm_90
     * on, batches whose activations a block's shared memory holds). FORM_AUTO: as the
     * configuration's entry for decode_step says; where it has none, the one kernel on a GPU that
     * can. */
    enum step_form form;
    bool refused_too; /* points that a comparison refused count, too: for comparing them again */
};

struct engine_options {
    int batch;        /* 1 to 16; 0: 1 */
    int64_t capacity; /* 0: 4096, or what the model was made for where that is less */
    enum dtype dtype; /* DTYPE_COUNT: the checkpoint's, or fp16 where the device has no bf16 */
    struct engine_choice choice;
    int64_t prefill_rows;       /* positions that a prefill takes at once; 0: 512 */
    uint64_t seed;              /* of a preset's weights */
    weights_progress *progress; /* of loading; NULL: none */
    void *progress_context;
};

struct engine;
/* The model must outlive the engine. STATUS_MEMORY says what is needed. */
enum status engine_open(struct device *device, const struct model *model,
                        const struct engine_options *options, struct engine **out);
void engine_close(struct engine *engine); /* NULL is fine */

/* What was made of the options, and what it took. */
struct engine_facts {
    int batch;
    int64_t capacity;
    enum dtype dtype;
    size_t weight_bytes, cache_bytes, work_bytes; /* of device memory */
    const char *configs, *config_path; /* where points come from; "": the built-in ones */
    bool persistent;                   /* one kernel for a step */
    const char *matmul;                /* who multiplies in a prefill */
};
struct engine_facts engine_facts(const struct engine *engine);
/* As weights_find(). What is written there counts from the next launch on. */
enum status engine_weight(const struct engine *engine, const char *name, struct weight_view *out);

/* For profiles: the parts of a layer's way through a prompt, and one of them alone, enqueued for
 * all layers and `count` positions of sequence 0, whose cache then holds nonsense: it must be begun
 * anew. false: there is no such part, or prompts go through as steps. */
struct prompt_part {
    const char *name;
    bool product; /* of matrices, by a library */
};
bool engine_prompt_part(const struct engine *engine, int index, struct prompt_part *out);
enum status engine_prompt_run(struct engine *engine, int index, int64_t count);

/* Decodes otherwise from now on. Sequences go on; programs are made anew when they are next needed.
 * STATUS_ARGUMENT: FORM_PERSISTENT where it cannot be had. */
enum status engine_choose(struct engine *engine, const struct engine_choice *choice);
/* Makes what decoding up to position `end` takes, which is else done when it is first needed. */
enum status engine_prepare(struct engine *engine, int64_t end);
/* For tests: blocks of the persistent step wait up to so long at the end of each phase. */
enum status engine_delay(struct engine *engine, int most_ns);

/* Begins a sequence anew with `count` ids (at least one, at most capacity), enqueues their way
 * through the model and the choice of the first token after them. STATUS_ARGUMENT: an id outside
 * the vocabulary, too many ids. */
enum status engine_prompt(struct engine *engine, int sequence, const int32_t *ids, int64_t count);
/* How a sequence chooses; greedy until told. Repetition penalty is not done on the device:
 * STATUS_ARGUMENT. */
enum status engine_sampling(struct engine *engine, int sequence,
                            const struct sample_options *options);

/* Enqueues `steps` decode steps of all sequences. STATUS_ARGUMENT where one would pass the
 * capacity. */
enum status engine_decode(struct engine *engine, int64_t steps);

/* Puts an id in the place of a sequence's pending token: what the next step embeds, whatever was
 * chosen. */
enum status engine_force(struct engine *engine, int sequence, int32_t id);

/* Positions that a sequence has filled or will have when what is enqueued is done. */
int64_t engine_position(const struct engine *engine, int sequence);
/* Waits, then gives ids [first, first + count) of a sequence's history; first + count may be at
 * most engine_position() + 1. A token of -1 means that logits were NaN: STATUS_INCORRECT, with the
 * weight that is to blame where there is one. */
enum status engine_tokens(struct engine *engine, int sequence, int64_t first, int64_t count,
                          int32_t *out);
/* Waits, then gives the logits (vocab) that the last token was chosen from. */
enum status engine_logits(struct engine *engine, int sequence, float *out);

/* The decode step that would run at the present positions, call by call. It is the engine's. */
enum status engine_step(struct engine *engine, struct program **out);
/* What a step changes but for the caches' next positions, which the next step writes anew: for
 * running parts of a step again and again. */
struct engine_state;
enum status engine_save(struct engine *engine, struct engine_state **out);
enum status engine_restore(struct engine *engine, const struct engine_state *state);
void engine_state_free(struct engine_state *state); /* NULL is fine */

#endif
