/* session.h - one device and what is kept open on it while points are evaluated one by one. */
#ifndef FASTINFER_SESSION_H
#define FASTINFER_SESSION_H

#include "baselines/baseline.h"
#include "harness/record.h"

enum { CLOCKS_SEEN = 64, KEPT_SUBJECTS = 24 };

struct subjects {                /* the buffers of a problem */
    struct subject *timed, *odd; /* NULL: none; odd: verify_odd_problem()'s */
    enum residency residency;
    int64_t used; /* the session's turn when they were last asked for */
    bool touched; /* a point ran on them */
};

struct session {
    struct device *device;
    struct support support;
    struct empties empties;
    const struct baseline *baseline; /* NULL: none; baseline_note says why */
    char baseline_name[96], baseline_note[256];
    uint64_t seed;
    struct subjects kept[KEPT_SUBJECTS], *now; /* now: of the problem evaluated last */
    int64_t turn;
    double keep_bytes; /* that buffers of several problems may take; those of one may take more */
    void *nvml_device; /* NULL without NVML */
    int clock_seen[CLOCKS_SEEN], clocks_seen; /* SM clocks while measuring, MHz: see steady_mhz() */
    double clock_read_s;
    int others; /* processes that were on the GPU before this one; 0 where unknown */
};

enum status session_open(const char *device_id, uint64_t seed, struct session *out);
void session_close(struct session *session);
/* Loads the PyTorch plugin: $FASTINFER_TORCH, else libfastinfer_torch.so beside the program. */
void session_load_baseline(struct session *session);

/* The buffers for a problem under a policy: those at hand where they are of the same one. */
enum status session_subject(struct session *session, const struct kernel *kernel,
                            const struct problem *problem, struct policy policy,
                            struct subject **out);

/* Compiles (or finds), verifies and times one point. What goes wrong with the point is the
 * record's status; the function fails only where nothing more can be measured. */
enum status session_evaluate(struct session *session, const struct kernel *kernel,
                             const struct problem *problem, struct policy policy,
                             const struct point *point, const struct limits *limits,
                             struct record *out);

/* Counts a point's work, once, in the state that the policy asks for: a launch's share where the
 * value is a sum. The point was verified before. */
enum status session_count(struct session *session, const struct kernel *kernel,
                          const struct problem *problem, struct policy policy,
                          const struct point *point, struct counters *counters,
                          struct counter_set *out);
/* What the formula says, under the names of the counters: for where there are none. */
void session_counted(const struct kernel *kernel, const struct problem *problem,
                     struct counter_set *out);

/* A contest: points of one kernel and problem, `ceilings` points of stream moving the same bytes,
 * and every baseline formula that exists, verified and timed in interleaved rounds. records: room
 * for point_count + ceiling_count + MAX_BASELINES. */
enum { MAX_BASELINES = 4, MAX_CONTEST = 16 };
struct contest {
    const struct kernel *kernel;
    struct problem problem;
    struct policy policy;
    struct point point[MAX_CONTEST];
    char name[MAX_CONTEST][32]; /* the record's subject: "kernel", "default", "ceiling" */
    int count;
    bool baselines, energy; /* energy: measure millijoules a launch, too: a second a contender */
    struct limits limits;
};
enum status session_contest(struct session *session, const struct contest *contest,
                            struct record *records, int *record_count);

/* The stream problem that moves the least bytes of a problem: bytes rounded to 16, mix kept. */
struct problem session_stream_problem(const struct kernel *kernel, const struct problem *problem);

/* What the device can do, measured: cuMemcpyDtoD's (or memcpy's) rate at 1 GiB, read + written, a
 * kernel's that only reads as much (0 on the CPU device), and the cost of an empty launch in a
 * stream and as a graph's node. */
struct ceilings {
    double copy_gbps, read_gbps, launch_ns, graph_node_ns;
    int64_t copy_bytes;
};
enum status session_ceilings(struct session *session, struct ceilings *out);

/* How many processes use a GPU now, by NVML; 0 where unknown. Process ids are not compared: in a
 * container they are not those that NVML knows. */
int session_gpu_processes(int ordinal);
struct telemetry session_telemetry(const struct session *session);

#endif
