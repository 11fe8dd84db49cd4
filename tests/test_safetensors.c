/* test_safetensors.c - weight files that are as they should be, and all the ways in which they are
 * not: each is refused with a sentence that names what is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/safetensors.h"

#include <cmocka.h> /* last: its macro fail() hides the function */

static char folder[64];

static void good(enum status status) {
    if (status) fail_msg("%s: %s", status_text(status), fail_message());
}

static void says(enum status got, enum status expected, const char *words) {
    if (got != expected || !strstr(fail_message(), words))
        fail_msg("%s '%s', where %s with '%s' was expected", status_text(got), fail_message(),
                 status_text(expected), words);
}

/* --- files ------------------------------------------------------------------------------------ */

struct file {
    unsigned char *bytes;
    size_t size;
};

/* `length` of header as announced, the header, `data` bytes that count up. */
static struct file compose_length(uint64_t length, const char *header, size_t data) {
    size_t n = strlen(header);
    struct file f = {malloc(8 + n + data + 1), 8 + n + data};
    assert_non_null(f.bytes);
    for (int i = 0; i < 8; i++) f.bytes[i] = (unsigned char)(length >> 8 * i);
    memcpy(f.bytes + 8, header, n);
    for (size_t i = 0; i < data; i++) f.bytes[8 + n + i] = (unsigned char)i;
    return f;
}

static struct file compose(const char *header, size_t data) {
    return compose_length(strlen(header), header, data);
}

/* On the heap to the byte, so that AddressSanitizer sees a read past the end. */
static void refused_bytes(struct file f, size_t size, const char *words) {
    struct safetensors *files = NULL;
    unsigned char *exact = malloc(size ? size : 1);
    assert_non_null(exact);
    memcpy(exact, f.bytes, size);
    says(safetensors_open_memory(exact, size, "w.safetensors", &files), STATUS_FORMAT, words);
    says(STATUS_FORMAT, STATUS_FORMAT, "w.safetensors"); /* the file is always named */
    assert_null(files);
    free(exact), free(f.bytes);
}

static void refused(const char *header, size_t data, const char *words) {
    struct file f = compose(header, data);
    refused_bytes(f, f.size, words);
}

static const char *path_of(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void put(const char *name, const void *bytes, size_t size) {
    FILE *out = fopen(path_of(name), "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, size, out), size);
    fclose(out);
}

static void put_tensors(const char *name, const char *header, size_t data) {
    struct file f = compose(header, data);
    put(name, f.bytes, f.size);
    free(f.bytes);
}

static void put_index(const char *text) { put("model.safetensors.index.json", text, strlen(text)); }

static void clear(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s/*", folder);
    assert_int_equal(system(command), 0);
}

/* 8 bytes of a: F16 (2, 2); 8 of b: F32 (2); 2 of c: BF16 scalar. A header of whole words. */
static const char HEADER[] =
    "{\"__metadata__\":{\"format\":\"pt\"},"
    "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]},"
    "\"a\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[0,8]},"
    "\"c\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[16,18]}}    ";
enum { DATA = 18 };

/* --- good ------------------------------------------------------------------------------------- */

static void a_file_is_read(void **state) {
    struct safetensors *files;
    struct tensor t;
    (void)state;
    assert_int_equal(strlen(HEADER) % 8, 0);
    put_tensors("one.safetensors", HEADER, DATA);
    good(safetensors_open(path_of("one.safetensors"), &files));
    assert_int_equal(safetensors_count(files), 3);
    assert_string_equal(safetensors_at(files, 1)->name, "b");
    assert_null(safetensors_find(files, "__metadata__"));
    good(safetensors_weight(files, "a", 2, (int64_t[]){2, 2}, &t));
    assert_true(t.dtype == DTYPE_F16 && t.bytes == 8 && t.rank == 2);
    assert_memory_equal(t.data, "\0\1\2\3\4\5\6\7", 8);
    good(safetensors_weight(files, "b", 1, (int64_t[]){2}, &t));
    assert_true(t.dtype == DTYPE_F32 && t.bytes == 8 && *(const char *)t.data == 8);
    good(safetensors_weight(files, "c", 0, NULL, &t));
    assert_true(t.dtype == DTYPE_BF16 && t.bytes == 2 && *(const char *)t.data == 16);
    safetensors_close(files);
    clear();
}

static void what_is_no_weight_is_refused_when_asked_for(void **state) {
    struct safetensors *files;
    struct tensor t;
    (void)state;
    struct file f = compose("{\"i\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]},"
                            "\"new\":{\"dtype\":\"F3\",\"shape\":[5],\"data_offsets\":[8,9]},"
                            "\"odd\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[9,13]},"
                            "\"none\":{\"dtype\":\"F16\",\"shape\":[0,3],\"data_offsets\":[13,13]},"
                            "\"x\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[13,17]}} ",
                            17);
    assert_int_equal((f.size - 17) % 2, 0);
    good(safetensors_open_memory(f.bytes, f.size, "w.safetensors", &files));
    assert_string_equal(safetensors_find(files, "i")->kind, "I64");
    says(safetensors_weight(files, "i", 1, (int64_t[]){1}, &t), STATUS_FORMAT, "is I64; F16, BF16");
    says(safetensors_weight(files, "new", 1, (int64_t[]){5}, &t), STATUS_FORMAT, "is F3; F16");
    says(safetensors_weight(files, "odd", 1, (int64_t[]){2}, &t), STATUS_FORMAT, "not aligned");
    says(safetensors_weight(files, "none", 2, (int64_t[]){0, 3}, &t), STATUS_FORMAT, "is empty");
    says(safetensors_weight(files, "y", 2, (int64_t[]){4, 3}, &t), STATUS_FORMAT,
         "there is no tensor 'y'; one of shape (4, 3) was expected");
    says(safetensors_weight(files, "x", 2, (int64_t[]){1, 2}, &t), STATUS_FORMAT,
         "has shape (2); (1, 2) was expected");
    safetensors_close(files);
    free(f.bytes);
}

/* --- one file, broken ------------------------------------------------------------------------- */

static void every_truncation_is_refused(void **state) {
    (void)state;
    for (size_t size = 0; size < 8 + strlen(HEADER) + DATA; size++)
        refused_bytes(compose(HEADER, DATA), size, "");
    refused_bytes(compose(HEADER, DATA), 7, "it has 7 bytes");
    refused_bytes(compose(HEADER, DATA), 100, "ends in its header");
    refused_bytes(compose(HEADER, DATA), 8 + strlen(HEADER) + 10,
                  "lie outside the file's 10 bytes");
    refused(HEADER, DATA + 1, "the last 1 bytes belong to no tensor");
}

static void lengths_of_header(void **state) {
    static const uint64_t lengths[] = {UINT64_C(1) << 60, UINT64_MAX, UINT64_MAX - 7, INT64_MAX,
                                       100000001};
    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct file f = compose_length(lengths[i], HEADER, DATA);
        refused_bytes(f, f.size, "at most 100000000 were expected");
    }
    struct file f = compose_length(strlen(HEADER) + DATA + 1, HEADER, DATA);
    refused_bytes(f, f.size, "ends in its header");
    f = compose_length(0, HEADER, DATA);
    refused_bytes(f, f.size, "header:1:");
}

static void headers_that_are_none(void **state) {
    (void)state;
    refused("", 0, "header:1:");
    refused("pickle", 4, "header:1:");
    refused("[1,2]", 0, "no JSON object");
    refused("{\"a\":", 0, "header:1:");
    refused("{\"a\":1}", 0, "'a': \"data_offsets\"");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
            "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
            2, "duplicate");
    refused("{\"a\":{\"dtype\":3,\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "\"dtype\"");
    refused("{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "\"shape\"");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]}}", 1, "shape[0]");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]}}", 1, "shape[0]");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1,
            "at most 8");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}", 1, "data_offsets");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1.5]}}", 1, "data_offsets");
}

static void places_that_cannot_be(void **state) {
    (void)state;
#define ONE(shape, from, to)                                                                       \
    "{\"a\":{\"dtype\":\"F32\",\"shape\":[" shape "],\"data_offsets\":[" from "," to "]}}"
    refused(ONE("2", "-8", "0"), 8, "lie outside");
    refused(ONE("2", "8", "0"), 8, "lie outside");
    refused(ONE("2", "0", "9223372036854775807"), 8, "lie outside");
    refused(ONE("2", "9223372036854775800", "9223372036854775807"), 8, "lie outside");
    refused(ONE("2", "0", "99999999999999999999"), 8, "header:1:");
    refused(ONE("3", "0", "8"), 8, "does not make the 8 bytes");
    refused(ONE("1", "0", "8"), 8, "does not make the 8 bytes");
    refused(ONE("4294967296,4294967296", "0", "0"), 0, "does not make the 0 bytes"); /* 2^64 */
    refused(ONE("2305843009213693952", "0", "0"), 0, "does not make the 0 bytes");   /* 2^61 */
    refused(ONE("4611686018427387905", "0", "4"), 4, "does not make");               /* 2^62+1 */
    refused(ONE("2", "4", "12"), 12, "4 bytes before tensor 'a'");
#undef ONE
#define TWO(a0, a1, b0, b1)                                                                        \
    "{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[4],\"data_offsets\":[" a0 "," a1 "]},"               \
    "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[" b0 "," b1 "]}}"
    refused(TWO("0", "4", "2", "6"), 6, "'a' and 'b' overlap");
    refused(TWO("0", "4", "0", "4"), 4, "overlap");
    refused(TWO("0", "4", "5", "9"), 9, "1 bytes before tensor 'b'");
    refused(TWO("5", "9", "0", "4"), 9, "1 bytes before tensor 'a'");
    refused("{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "does not make");
}

/* --- folders ---------------------------------------------------------------------------------- */

static void folder_says(enum status status, const char *words) {
    struct safetensors *files;
    says(safetensors_open(folder, &files), status, words);
    assert_null(files);
}

#define TENSOR(name) "{\"" name "\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}"

static void no_tensors_at_all(void **state) {
    struct safetensors *files;
    (void)state;
    struct file f = compose("{\"__metadata__\":{}}", 0);
    good(safetensors_open_memory(f.bytes, f.size, "w.safetensors", &files));
    assert_int_equal(safetensors_count(files), 0);
    assert_null(safetensors_find(files, "a"));
    safetensors_close(files);
    free(f.bytes);
    refused("{}", 3, "the last 3 bytes belong to no tensor");
}

static void shards_are_joined(void **state) {
    struct safetensors *files;
    (void)state;
    put_tensors("m-1.safetensors", TENSOR("z"), 1);
    put_tensors("m-2.safetensors", TENSOR("a"), 1);
    put_index("{\"weight_map\":{\"z\":\"m-1.safetensors\",\"a\":\"m-2.safetensors\"}}");
    good(safetensors_open(folder, &files));
    assert_int_equal(safetensors_count(files), 2);
    assert_non_null(strstr(safetensors_find(files, "z")->where, "m-1"));
    safetensors_close(files);
    put_tensors("model.safetensors", TENSOR("only"), 1); /* wins over an index */
    good(safetensors_open(folder, &files));
    assert_int_equal(safetensors_count(files), 1);
    safetensors_close(files);
    clear();
}

static void indexes_are_not_trusted(void **state) {
    (void)state;
    folder_says(STATUS_MISSING, "neither model.safetensors nor");
    put_tensors("m-1.safetensors", TENSOR("z"), 1);
    put_tensors("m-2.safetensors", TENSOR("z"), 1);
    put_tensors("m-3.safetensors", TENSOR("b"), 2);
    put_index("{\"weight_map\":{\"z\":\"m-1.safetensors\",\"q\":\"m-9.safetensors\"}}");
    folder_says(STATUS_MISSING, "m-9.safetensors: No such file");
    put_index("{\"weight_map\":{\"z\":\"m-1.safetensors\",\"y\":\"m-1.safetensors\"}}");
    folder_says(STATUS_FORMAT, "'y' is not in m-1.safetensors");
    put_index("{\"weight_map\":{\"z\":\"m-1.safetensors\",\"y\":\"m-2.safetensors\"}}");
    folder_says(STATUS_FORMAT, "'z' is in both");
    put_index("{\"weight_map\":{\"b\":\"m-3.safetensors\"}}");
    folder_says(STATUS_FORMAT, "the last 1 bytes");
    put_index("{\"weight_map\":{}}");
    folder_says(STATUS_FORMAT, "\"weight_map\" was expected");
    put_index("{\"weight_map\":[\"z\"]}");
    folder_says(STATUS_FORMAT, "\"weight_map\" was expected");
    put_index("[]");
    folder_says(STATUS_FORMAT, "\"weight_map\" was expected");
    put_index("{");
    folder_says(STATUS_FORMAT, "index.json:1:");
    clear();
}

static void no_path_leads_out(void **state) {
    static const char *const paths[] = {"../m.safetensors",
                                        "/m.safetensors",
                                        "a/m.safetensors",
                                        "..",
                                        ".",
                                        "",
                                        "..safetensors",
                                        ".m.safetensors",
                                        ".safetensors",
                                        "m.bin",
                                        "m.safetensors/"};
    char text[256];
    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        snprintf(text, sizeof text, "{\"weight_map\":{\"z\":\"%s\"}}", paths[i]);
        put_index(text);
        folder_says(STATUS_FORMAT, "in the same folder was expected");
    }
    put_index("{\"weight_map\":{\"z\":7}}");
    folder_says(STATUS_FORMAT, "in the same folder was expected");
    clear();
}

static void what_is_no_file(void **state) {
    struct safetensors *files;
    (void)state;
    says(safetensors_open("/nowhere/at/all", &files), STATUS_MISSING, "/nowhere/at/all");
    assert_int_equal(mkdir(path_of("model.safetensors"), 0755), 0);
    folder_says(STATUS_FORMAT, "model.safetensors: a safetensors file");
    assert_int_equal(rmdir(path_of("model.safetensors")), 0);
    assert_int_equal(mkfifo(path_of("model.safetensors"), 0644),
                     0); /* must not wait for a writer */
    folder_says(STATUS_FORMAT, "model.safetensors: a safetensors file");
    clear();
    put("model.safetensors", "", 0);
    folder_says(STATUS_FORMAT, "at least 8 bytes");
    clear();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_read),
        cmocka_unit_test(what_is_no_weight_is_refused_when_asked_for),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(lengths_of_header),
        cmocka_unit_test(headers_that_are_none),
        cmocka_unit_test(places_that_cannot_be),
        cmocka_unit_test(no_tensors_at_all),
        cmocka_unit_test(shards_are_joined),
        cmocka_unit_test(indexes_are_not_trusted),
        cmocka_unit_test(no_path_leads_out),
        cmocka_unit_test(what_is_no_file),
    };
    snprintf(folder, sizeof folder, "/tmp/fastinfer-safetensors-XXXXXX");
    if (!mkdtemp(folder)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    clear();
    rmdir(folder);
    return failed;
}
