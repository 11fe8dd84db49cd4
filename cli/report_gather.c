#include "cli/report_gather.h"

#include <errno.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/export.h"
#include "cli/export_tables.h"
#include "harness/t4.h"

struct gathering {
    struct store *store;
    struct gathered *out;
};

static enum status take_device(void *context, int columns, const char *const *names,
                               const char *const *v) {
    struct gathering *g = context;
    (void)columns, (void)names;
    if (g->out->folders == MAX_EXPORTED) return STATUS_OK;
    char *folder = g->out->folder[g->out->folders++];
    TRY(export_folder(g->out->root, v[0], folder, sizeof *g->out->folder));
    TRY(export_bench_csv(g->store, v[0], folder));
    TRY(export_environment(g->store, v[0], folder));
    TRY(export_tables(g->store, v[0], folder, false));
    struct t4_counts counts;
    char spaces[300];
    snprintf(spaces, sizeof spaces, "%s/spaces", folder);
    return t4_write(g->store, v[0], spaces, 200, &counts);
}

enum status report_gather(const char *db, struct gathered *out) {
    struct gathering g = {.out = out};
    TRY(store_open_readonly(db, &g.store));
    export_silently();
    snprintf(out->root, sizeof out->root, "/tmp/fastinfer-report-XXXXXX");
    enum status status = STATUS_OK;
    if (!mkdtemp(out->root)) {
        status = fail(STATUS_SYSTEM, "%s: %s", out->root, strerror(errno));
        out->root[0] = 0;
    }
    if (!status)
        status = store_query(g.store,
                             "SELECT slug FROM device d WHERE EXISTS (SELECT 1 FROM measurement m "
                             "JOIN run ON run.id = m.run_id WHERE run.device_id = d.id) OR EXISTS "
                             "(SELECT 1 FROM throughputs t WHERE t.device_slug = d.slug) "
                             "ORDER BY kind DESC, id",
                             NULL, 0, &g, take_device);
    store_close(g.store);
    if (!status && !out->folders) status = fail(STATUS_ARGUMENT, "%s: nothing measured yet", db);
    return status;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *ftw) {
    (void)info, (void)kind, (void)ftw;
    return remove(path);
}

void report_gathered_free(struct gathered *gathered) {
    if (gathered->root[0]) nftw(gathered->root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    gathered->root[0] = 0;
}
