/* measure.h - how long does it take? Contenders timed in interleaved rounds under one policy.
 *
 * A sample holds `launches` launches between two events in a stream that is held until all of it
 * is enqueued; its time is (span - span of as many empty kernels) / launches. Spans are made to
 * last SPAN_NS, since an event is only good to half a microsecond. Cold: the caches are flushed by
 * reading before the span and every launch in it finds other buffers. Hot: the same buffers.
 * weights_cold: weights rotate, activations stay.
 */
#ifndef FASTINFER_MEASURE_H
#define FASTINFER_MEASURE_H

#include "harness/stats.h"
#include "harness/subject.h"

enum { MAX_LAUNCHES = 256, MAX_SAMPLES = 128 };
#define SPAN_NS 200e3

/* Tells of a disturbance (a clock that has fallen) between rounds; the round is then taken anew,
 * a few times at most. */
struct watch {
    void *context;
    bool (*disturbed)(void *context);
};

struct limits {
    int min_samples, max_samples;
    double share;       /* stop when half the median's interval is under this share of it */
    double max_seconds; /* for one contest, at least min_samples all the same */
    bool race;          /* contenders whose interval lies above the leader's go no further */
    double hopeless_ns; /* one contender alone stops when its first samples all lie above; 0: no */
};

struct contender {
    struct subject *subject; /* whose sets it runs on */
    enum status (*enqueue)(void *context, int set, int weight_set);
    void *context;
    bool no_graph; /* eager by nature: timed from the stream whatever the policy says */
    int kernels;   /* launches that one call makes, about; 1 if 0 */

    int launches; /* N of a sample; where not 0 at the start, it is taken as known */
    struct graph *graph;
    double samples[MAX_SAMPLES]; /* ns a launch, in the order taken */
    struct summary summary;
    double resolution_ns; /* of one sample's value */
    int retaken;          /* samples taken anew */
    bool beaten;          /* dropped from a race */
    double host_ns;       /* for the host to enqueue one, unheld */
    double wall_ns;       /* from call to call when nobody waits in between */
};

/* A variant as a contender: its context, and its enqueue. */
struct variant_call {
    struct subject *subject;
    const struct variant *variant;
};
enum status variant_enqueue(void *call, int set, int weight_set);

/* Spans of empty kernels, by launch kind and count, measured once a device. */
struct empties {
    double ns[2][MAX_LAUNCHES + 1]; /* 0: not measured yet */
};

/* How many sets a subject needs under a policy. */
int measure_sets(const struct kernel *kernel, const struct problem *problem,
                 const struct device_info *device, struct policy policy);

/* Times the contenders; order within a round alternates (A B, B A). Their subjects, all on one
 * device, have measure_sets() sets, or as many as memory allowed. watch: NULL for none. */
enum status measure_contest(struct policy policy, struct contender *contenders, int count,
                            const struct limits *limits, const struct watch *watch,
                            struct empties *empties);

/* Times a against b in rounds a b b a, both with the same launches a sample; their summaries are
 * filled. With `planted`, b's samples hold one launch more than PLANTED_LAUNCHES and are counted as
 * if they did not: a slowdown of 3%. */
enum { PLANTED_LAUNCHES = 33 };
enum status measure_pair(struct policy policy, struct contender *a, struct contender *b, int rounds,
                         bool planted, struct empties *empties);
/* Launches a contender that was measured over and over for about so long; *launches: how often. */
enum status measure_repeat(struct policy policy, struct contender *contender, double seconds,
                           int64_t *launches);
void measure_free(struct contender *contenders, int count);

/* The span of N empty kernels, launched so. */
enum status measure_empty(struct support *support, enum launch_kind kind, int launches,
                          struct empties *empties, double *ns);

#endif
