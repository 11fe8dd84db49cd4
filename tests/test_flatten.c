/* test_flatten.c - a kernel's source with its headers in place, for a GPU's compiler alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/compile.h"

#include <cmocka.h> /* last: its macro fail() hides the function */

static char folder[64];

static void good(enum status status) {
    if (status) fail_msg("%s: %s", status_text(status), fail_message());
}

static void write_file(const char *name, const char *text) {
    char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void flat(const char *text, const char *wanted) {
    char path[200], *got = NULL;
    write_file("flat.cu", text);
    snprintf(path, sizeof path, "%s/flat.cu", folder);
    enum status status = source_flatten(path, &got);
    if (!wanted) {
        assert_int_equal(status, STATUS_FORMAT);
        return;
    }
    good(status);
    assert_string_equal(got, wanted);
    free(got);
}

static void sources(void **state) {
    (void)state;
    write_file("own.h", "#ifndef OWN\n#define OWN\nint own;\n#endif\n");
    flat("a\n\n\n\nb", "a\n\nb\n");
    flat("#include \"own.h\"\n#include \"own.h\"\n#include <math.h>\n",
         "#ifndef OWN\n#define OWN\nint own;\n#endif\n#include <math.h>\n");
    flat("#ifdef __CUDACC__\na\n#ifdef X\nb\n#else\nc\n#endif\n#else\n#ifdef X\nd\n#else\ne\n"
         "#endif\n#include \"none.h\"\n#endif // of it\nf\n",
         "a\n#ifdef X\nb\n#else\nc\n#endif\nf\n");
    flat("#ifndef CHECK\na\n  # else // CHECK\nb\n#endif\n#ifdef CHECK\nc\n#endif\n", "a\n");
    flat("#ifndef KERNELS_A_CUH\n#define KERNELS_A_CUH\na\n#define KERNEL_A 1\n#endif\n",
         "a\n#define KERNEL_A 1\n");
    flat("#if X\na\n#elif Y\nb\n#else\nc\n#endif\n", "#if X\na\n#elif Y\nb\n#else\nc\n#endif\n");
    flat("#include \"none.h\"\n", NULL);
    flat("#ifdef CHECK\n", NULL);
    flat("#endif\n", NULL);
    flat("#ifdef CHECK\n#elif X\n#endif\n", NULL);
    char *text;
    good(source_flatten("kernels/rmsnorm/rmsnorm.cu", &text));
    assert_null(strstr(text, "#include \""));
    assert_null(strstr(text, "SIMT_EXPORT")); /* a host compiler's */
    assert_null(strstr(text, "ENTRY(check)"));
    assert_non_null(strstr(text, "row_sum"));
    free(text);
}

static int set_up(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/fastinfer-flatten-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state) {
    char command[100];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(sources)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
