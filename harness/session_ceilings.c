/* session_ceilings.c - what the device can do: memory's rate, a launch's cost. */
#include "harness/session.h"

struct copy_call {
    struct session *session;
    void *from, *to;
    size_t bytes;
};
static enum status enqueue_copy(void *context, int set, int weight_set) {
    struct copy_call *c = context;
    struct device *device = c->session->device;
    (void)set, (void)weight_set;
    return device->ops->copy(device, c->to, c->from, c->bytes);
}
static enum status enqueue_read(void *context, int set, int weight_set) {
    struct copy_call *c = context;
    (void)set, (void)weight_set;
    return support_read(&c->session->support, c->from, c->bytes);
}

static enum status measure_memory(struct session *s, struct copy_call *call, struct ceilings *out) {
    static const struct kernel nothing = {.name = "copy"};
    struct subject subject = {.support = &s->support, .kernel = &nothing, .sets = 1};
    struct contender c[] = {{.subject = &subject, .enqueue = enqueue_copy, .context = call},
                            {.subject = &subject, .enqueue = enqueue_read, .context = call}};
    struct limits limits = {10, 30, 0.005, 1.0, false, 0};
    bool cpu = s->device->info.kind == DEVICE_CPU;
    TRY(measure_contest((struct policy){RESIDENCY_COLD, LAUNCH_STREAM}, c, cpu ? 1 : 2, &limits,
                        NULL, &s->empties));
    out->copy_bytes = (int64_t)call->bytes;
    out->copy_gbps = 2 * (double)call->bytes / c[0].summary.median;
    if (!cpu) out->read_gbps = (double)call->bytes / c[1].summary.median;
    return STATUS_OK;
}

/* One empty kernel more, in a row of them. */
static enum status measure_launch(struct session *s, enum launch_kind kind, double *ns) {
    double one, many;
    TRY(measure_empty(&s->support, kind, 1, &s->empties, &one));
    TRY(measure_empty(&s->support, kind, 128, &s->empties, &many));
    *ns = (many - one) / 127;
    return STATUS_OK;
}

enum status session_ceilings(struct session *s, struct ceilings *out) {
    struct device *device = s->device;
    size_t available;
    *out = (struct ceilings){0};
    TRY(device->ops->free_bytes(device, &available));
    struct copy_call call = {.session = s};
    call.bytes = device->info.kind == DEVICE_CPU ? 64 << 20 : 1 << 30;
    while (call.bytes > available / 4 && call.bytes > 1 << 20) call.bytes /= 2;
    enum status status = device->ops->allocate(device, call.bytes, &call.from);
    if (!status) status = device->ops->allocate(device, call.bytes, &call.to);
    if (!status) status = device->ops->set_bytes(device, call.from, 0x3c, call.bytes);
    if (!status) status = measure_memory(s, &call, out);
    if (call.from) device->ops->release(device, call.from);
    if (call.to) device->ops->release(device, call.to);
    if (!status) status = measure_launch(s, LAUNCH_STREAM, &out->launch_ns);
    if (!status) status = measure_launch(s, LAUNCH_GRAPH, &out->graph_node_ns);
    return status;
}
