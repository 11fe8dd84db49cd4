/* test_tokenizer.c - ids against HuggingFace's, as tests/golden/make_tokenizers.py kept them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "engine/chat.h"
#include "engine/tokenizer.h"

#include <cmocka.h> /* last: its macro fail() hides the function */

#define GOLDEN FASTINFER_ROOT "/tests/golden/tokenizers/"
static const char *const styles[] = {"llama3", "qwen", "smollm", "gpt2", "mistral", "metaspace"};
enum { STYLES = sizeof styles / sizeof *styles, TEXTS = 300 };

static struct {
    char *bytes;
    size_t size;
} texts[TEXTS];

/* --- helpers ---------------------------------------------------------------------------------- */

static void good(enum status status) {
    if (status) fail_msg("%s: %s", status_text(status), fail_message());
}

static void says(enum status got, enum status expected, const char *words) {
    if (got != expected || !strstr(fail_message(), words))
        fail_msg("%s '%s', where %s with '%s' was expected", status_text(got), fail_message(),
                 status_text(expected), words);
}

static struct tokenizer *opened(const char *style) {
    char path[sizeof GOLDEN + 64];
    struct tokenizer *tokenizer = NULL;
    snprintf(path, sizeof path, GOLDEN "%s.json", style);
    good(tokenizer_open(path, &tokenizer));
    return tokenizer;
}

static void refused(const char *json, const char *words) {
    struct tokenizer *tokenizer;
    says(tokenizer_open_text("here", json, strlen(json), &tokenizer), STATUS_FORMAT, words);
    assert_null(tokenizer);
    assert_int_equal(strncmp(fail_message(), "here", 4), 0);
}

#define MODEL                                                                                      \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]"

static void encodes(struct tokenizer *tokenizer, const char *text, size_t bytes, bool special,
                    const int32_t *ids, size_t count) {
    int32_t *got;
    size_t got_count;
    good(tokenizer_encode(tokenizer, text, bytes, special, &got, &got_count));
    assert_int_equal(got_count, count);
    if (count) assert_memory_equal(got, ids, count * sizeof *ids);
    free(got);
}

static int read_texts(void **state) {
    char *line = NULL;
    size_t room = 0, count = 0;
    (void)state;
    FILE *file = fopen(GOLDEN "texts.hex", "r");
    if (!file) return -1;
    while (count < TEXTS && getline(&line, &room, file) > 0) {
        size_t size = strcspn(line, "\n") / 2;
        texts[count].bytes = malloc(size + 1);
        texts[count].size = size;
        for (size_t i = 0; i < size; i++) {
            unsigned byte = 0;
            if (sscanf(line + 2 * i, "%2x", &byte) != 1) return -1;
            texts[count].bytes[i] = (char)byte;
        }
        count++;
    }
    free(line);
    fclose(file);
    return count == TEXTS ? 0 : -1;
}

static int free_texts(void **state) {
    (void)state;
    for (int i = 0; i < TEXTS; i++) free(texts[i].bytes);
    return 0;
}

/* --- against HuggingFace ---------------------------------------------------------------------- */

static void decodes(struct tokenizer *tokenizer, const int32_t *ids, size_t count, unsigned crc,
                    int line) {
    char *text;
    size_t bytes, streamed = 0, got;
    const char *piece;
    struct tokenizer_stream *stream;
    good(tokenizer_decode(tokenizer, ids, count, false, &text, &bytes));
    if (crc32(0, (const Bytef *)text, (uInt)bytes) != crc)
        fail_msg("text %d decodes to '%s'", line + 1, text);
    good(tokenizer_stream_open(tokenizer, false, &stream));
    for (size_t i = 0; i <= count; i++) {
        if (i < count)
            good(tokenizer_stream_push(stream, ids[i], &piece, &got));
        else
            good(tokenizer_stream_end(stream, &piece, &got));
        assert_true(streamed + got <= bytes);
        if (got) assert_memory_equal(text + streamed, piece, got);
        streamed += got;
    }
    assert_int_equal(streamed, bytes);
    tokenizer_stream_close(stream);
    free(text);
}

static void one_text(struct tokenizer *tokenizer, const char *style, const char *line, int number) {
    int32_t *ids;
    size_t count, i = 0;
    char *end;
    unsigned crc = (unsigned)strtoul(line, &end, 16);
    good(tokenizer_encode(tokenizer, texts[number].bytes, texts[number].size, true, &ids, &count));
    while (*end == ' ') {
        long id = strtol(end + 1, &end, 10);
        if (i >= count || ids[i] != id)
            fail_msg("%s: text %d: id %zu is %d of %zu, not %ld", style, number + 1, i,
                     i < count ? ids[i] : -1, count, id);
        i++;
    }
    assert_int_equal(i, count);
    decodes(tokenizer, ids, count, crc, number);
    free(ids);
}

static void ids_are_huggingfaces(void **state) {
    (void)state;
    for (int s = 0; s < STYLES; s++) {
        char path[sizeof GOLDEN + 64];
        char *line = NULL;
        size_t room = 0;
        int number = 0;
        struct tokenizer *tokenizer = opened(styles[s]);
        snprintf(path, sizeof path, GOLDEN "%s.ids", styles[s]);
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        for (; number < TEXTS && getline(&line, &room, file) > 0; number++)
            one_text(tokenizer, styles[s], line, number);
        assert_int_equal(number, TEXTS);
        fclose(file);
        free(line);
        tokenizer_close(tokenizer);
    }
}

/* At byte level without a normalizer decoding gives the text back, ill-formed bytes apart. */
static void byte_level_round_trip(void **state) {
    static const char text[] = "a\0b \xf0\x9f\x98\x80\r\n\t <|eot_id|> \xc2\xa0'S";
    struct tokenizer *tokenizer = opened("llama3");
    int32_t *ids;
    size_t count, bytes;
    char *back;
    (void)state;
    good(tokenizer_encode(tokenizer, text, sizeof text - 1, false, &ids, &count));
    good(tokenizer_decode(tokenizer, ids, count, false, &back, &bytes));
    assert_int_equal(bytes, sizeof text - 1);
    assert_memory_equal(back, text, bytes);
    free(ids), free(back);
    tokenizer_close(tokenizer);
}

/* --- the parts -------------------------------------------------------------------------------- */

static void broken_bytes_are_replaced(void **state) {
    static const struct {
        const char *in, *out;
    } cases[] = {{"\xff", "\xef\xbf\xbd"},
                 {"\xe2\x82", "\xef\xbf\xbd"},
                 {"\xf0\x9f\x98x", "\xef\xbf\xbdx"},
                 {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
                 {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},
                 {"a\xe4\xbd\xe4\xbd\xa0", "a\xef\xbf\xbd\xe4\xbd\xa0"}};
    struct tokenizer *tokenizer = opened("llama3");
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t *ids;
        size_t count;
        good(tokenizer_encode(tokenizer, cases[i].out, strlen(cases[i].out), true, &ids, &count));
        encodes(tokenizer, cases[i].in, strlen(cases[i].in), true, ids, count);
        free(ids);
    }
    tokenizer_close(tokenizer);
}

static void streams_hold_back_what_is_cut(void **state) {
    static const char *const names[] = {"<0xE2>", "<0x82>", "<0xAC>", "a"};
    struct tokenizer *tokenizer = opened("mistral");
    struct tokenizer_stream *stream;
    const char *text;
    size_t bytes;
    (void)state;
    good(tokenizer_stream_open(tokenizer, true, &stream));
    for (int i = 0; i < 4; i++) {
        good(tokenizer_stream_push(stream, tokenizer_id(tokenizer, names[i]), &text, &bytes));
        assert_int_equal(bytes, i < 3 ? 0 : 4);
    }
    assert_memory_equal(text,
                        "\xe2\x82\xac"
                        "a",
                        4);
    good(tokenizer_stream_push(stream, tokenizer_id(tokenizer, "</s>"), &text, &bytes));
    assert_int_equal(bytes, 0); /* special, skipped */
    good(tokenizer_stream_push(stream, tokenizer_id(tokenizer, "<0xE2>"), &text, &bytes));
    good(tokenizer_stream_end(stream, &text, &bytes));
    assert_int_equal(bytes, 3);
    assert_memory_equal(text, "\xef\xbf\xbd", 3);
    good(tokenizer_stream_push(stream, 1 << 30, &text, &bytes)); /* no such token: nothing */
    assert_int_equal(bytes, 0);
    tokenizer_stream_close(stream);
    tokenizer_close(tokenizer);
}

static void special_tokens(void **state) {
    struct tokenizer *llama = opened("llama3"), *qwen = opened("qwen");
    size_t bytes;
    (void)state;
    int32_t end = tokenizer_id(llama, "<|end_of_text|>"), turn = tokenizer_id(llama, "<|eot_id|>");
    assert_int_equal(tokenizer_bos(llama), tokenizer_id(llama, "<|begin_of_text|>"));
    assert_int_equal(tokenizer_eos(llama), end);
    assert_true(tokenizer_is_end(llama, end) && tokenizer_is_end(llama, turn));
    assert_false(tokenizer_is_end(llama, 5) || tokenizer_is_end(llama, -1));
    assert_false(tokenizer_is_end(llama, tokenizer_bos(llama)));
    assert_true(tokenizer_is_special(llama, turn));
    assert_false(tokenizer_is_special(llama, 5));
    assert_false(tokenizer_is_special(qwen, tokenizer_id(qwen, "<think>")));
    assert_int_equal(tokenizer_bos(qwen), -1);
    assert_int_equal(tokenizer_id(llama, "no such token"), -1);
    assert_memory_equal(tokenizer_content(llama, turn, &bytes), "<|eot_id|>", 10);
    assert_int_equal(bytes, 10);
    assert_int_equal(tokenizer_size(llama), turn + 1);
    assert_null(tokenizer_content(llama, turn + 1, &bytes));
    tokenizer_close(llama), tokenizer_close(qwen);
}

static void configuration_names_the_ends(void **state) {
    char folder[] = "/tmp/fastinfer-tokenizer-XXXXXX", path[80];
    struct tokenizer *tokenizer;
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    says(tokenizer_open(folder, &tokenizer), STATUS_SYSTEM, "tokenizer.json");
    assert_int_equal(symlink(GOLDEN "llama3.json", path), 0);
    snprintf(path, sizeof path, "%s/tokenizer_config.json", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("{\"bos_token\": null, \"eos_token\": {\"content\": \"<|eot_id|>\"}}", file);
    fclose(file);
    good(tokenizer_open(folder, &tokenizer));
    assert_int_equal(tokenizer_bos(tokenizer), -1);
    assert_int_equal(tokenizer_eos(tokenizer), tokenizer_id(tokenizer, "<|eot_id|>"));
    tokenizer_close(tokenizer);
    unlink(path);
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    unlink(path), rmdir(folder);
}

static void merges_go_by_rank_then_left(void **state) {
    static const char json[] =
        "{\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"aa\":2,\"ab\":3,\"aab\":4},"
        "\"merges\":[[\"a\",\"a\"],[\"a\",\"b\"],[\"aa\",\"b\"]]}}";
    struct tokenizer *tokenizer;
    (void)state;
    good(tokenizer_open_text("here", json, sizeof json - 1, &tokenizer));
    encodes(tokenizer, "aaa", 3, true, (const int32_t[]){2, 0}, 2);
    encodes(tokenizer, "aaab", 4, true, (const int32_t[]){2, 3}, 2);
    encodes(tokenizer, "aab", 3, true, (const int32_t[]){4}, 1);
    encodes(tokenizer, "xbx", 3, true, (const int32_t[]){1}, 1); /* no unk_token: dropped */
    encodes(tokenizer, "", 0, true, NULL, 0);
    tokenizer_close(tokenizer);
}

/* A quadratic join of a word this long would take minutes. */
static void long_words_are_quick(void **state) {
    enum { BYTES = 1 << 20 };
    struct timespec begin, end;
    int32_t *ids;
    size_t count;
    char *text = malloc(BYTES);
    struct tokenizer *tokenizer = opened("mistral");
    (void)state;
    assert_non_null(text);
    for (int i = 0; i < BYTES; i++) text[i] = "aab"[i % 3];
    clock_gettime(CLOCK_MONOTONIC, &begin);
    good(tokenizer_encode(tokenizer, text, BYTES, false, &ids, &count));
    clock_gettime(CLOCK_MONOTONIC, &end);
    assert_true(count > BYTES / 20 && count <= BYTES + 1);
    assert_true(end.tv_sec - begin.tv_sec < 20); /* 0.3 s; sanitizers are slow */
    free(ids), free(text);
    tokenizer_close(tokenizer);
}

static void what_is_unsupported_is_named(void **state) {
    (void)state;
    refused("{", "here:1");
    refused("[]", "no object \"model\"");
    refused("{\"model\":{\"type\":\"WordPiece\"}}", "model 'WordPiece'");
    refused("{" MODEL ",\"dropout\":0.1}}", "dropout");
    refused("{" MODEL ",\"end_of_word_suffix\":\"</w>\"}}", "end_of_word_suffix");
    refused("{" MODEL ",\"byte_fallback\":1}}", "byte_fallback");
    refused("{\"model\":{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", "same id 0");
    refused("{\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}", "an id from 0");
    refused("{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}}", "what they make");
    refused("{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a\"]}}", "merges[0]");
    refused("{" MODEL "},\"normalizer\":{\"type\":\"StripAccents\"}}", "normalizer 'StripAccents'");
    refused("{" MODEL "},\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}}",
            "pre_tokenizer 'UnicodeScripts'");
    refused("{" MODEL "},\"post_processor\":{\"type\":\"BertProcessing\"}}",
            "post_processor 'BertProcessing'");
    refused("{" MODEL "},\"decoder\":{\"type\":\"CTC\"}}", "decoder 'CTC'");
    refused("{" MODEL "},\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},"
            "{\"type\":\"ByteFallback\"}]}}",
            "behind Fuse");
    refused("{" MODEL "},\"added_tokens\":[{\"id\":7,\"content\":\"a\"}]}",
            "the vocabulary has it");
    refused("{" MODEL "},\"added_tokens\":[{\"id\":1,\"content\":\"c\"}]}", "gives to another");
    refused("{" MODEL
            "},\"added_tokens\":[{\"id\":8,\"content\":\"c\"},{\"id\":8,\"content\":\"d\"}]}",
            "two added tokens");
    says(tokenizer_open("/nonexistent/folder", &(struct tokenizer *){0}), STATUS_SYSTEM,
         "/nonexistent/folder");
}

/* Sixteen steps that each double a text make 65,536 times as much of it. */
static void steps_that_multiply_are_stopped(void **state) {
    static const char *const kinds[][4] = {
        {"normalizer", "normalizers",
         "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"aa\"}",
         "normalizer: its steps"},
        {"pre_tokenizer", "pretokenizers", "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}",
         "pre_tokenizer: its steps"}};
    (void)state;
    for (size_t k = 0; k < 2; k++)
        for (int steps = 1; steps <= 16; steps += 15) {
            char json[4096], text[64];
            struct tokenizer *tokenizer;
            int32_t *ids = NULL;
            size_t count, n = (size_t)snprintf(json, sizeof json,
                                               "{" MODEL "},\"%s\":{\"type\":\"Sequence\",\"%s\":[",
                                               kinds[k][0], kinds[k][1]);
            for (int i = 0; i < steps; i++)
                n += (size_t)snprintf(json + n, sizeof json - n, "%s%s", i ? "," : "", kinds[k][2]);
            snprintf(json + n, sizeof json - n, "]}}");
            good(tokenizer_open_text("here", json, strlen(json), &tokenizer));
            memset(text, 'a', sizeof text);
            for (size_t i = 0; k == 1 && i < sizeof text; i++) text[i] = i % 2 ? '\xb6' : '\xc3';
            enum status status =
                tokenizer_encode(tokenizer, text, sizeof text, false, &ids, &count);
            if (steps == 1)
                assert_int_equal(status, STATUS_OK);
            else
                says(status, STATUS_FORMAT, kinds[k][3]);
            free(ids);
            tokenizer_close(tokenizer);
        }
}

static void regexes_that_could_differ_are_refused(void **state) {
    static const char *const regexes[][2] = {{"[a[b]]", "class within"},
                                             {"[a&&b]", "intersection"},
                                             {"(?m:.)", "group"},
                                             {"(a)\\\\1", "an escape"},
                                             {"a{,3}", "least number"},
                                             {"a{1,2}+", "repeated repetition"},
                                             {"(*UTF)a", "group"},
                                             {"[]a]", "starts with ]"},
                                             {"\\\\p{Nonsense}", "PCRE2"},
                                             {"(a", "PCRE2"},
                                             {"\\\\bx", "an escape"},
                                             {"[\\\\W]", "\\W inside"},
                                             {"[[:alpha:]]", "class within"}};
    char json[400];
    (void)state;
    for (size_t i = 0; i < sizeof regexes / sizeof *regexes; i++) {
        snprintf(json, sizeof json,
                 "{" MODEL "},\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},"
                 "\"behavior\":\"Isolated\"}}",
                 regexes[i][0]);
        refused(json, regexes[i][1]);
        assert_non_null(strstr(fail_message(), "pre_tokenizer Split"));
    }
}

/* --- chat ------------------------------------------------------------------------------------- */

static void chat_says(enum chat_layout layout, const char *expected) {
    static const struct chat_message messages[] = {
        {"system", "Be kind."}, {"user", " Hi\n"}, {"assistant", "Yes?"}, {"user", "Bye"}};
    char *text;
    good(chat_text(layout, messages, 4, &text));
    assert_string_equal(text, expected);
    free(text);
}

static void chat_layouts(void **state) {
    (void)state;
    chat_says(CHAT_LLAMA3,
              "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
              "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
              "<|start_header_id|>assistant<|end_header_id|>\n\nYes?<|eot_id|>"
              "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
              "<|start_header_id|>assistant<|end_header_id|>\n\n");
    chat_says(CHAT_CHATML,
              "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n Hi\n<|im_end|>\n"
              "<|im_start|>assistant\nYes?<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
              "<|im_start|>assistant\n");
    chat_says(CHAT_MISTRAL, "<s>[INST] Be kind.\n\n Hi\n [/INST] Yes?</s>[INST] Bye [/INST]");
    chat_says(CHAT_MISTRAL_3, "<s>[INST]  Hi\n[/INST] Yes?</s>[INST] Be kind.\n\nBye[/INST]");
    chat_says(CHAT_MISTRAL_TEKKEN, "<s>[INST] Hi\n[/INST]Yes?</s>[INST]Be kind.\n\nBye[/INST]");
}

static void chat_fits_the_tokenizer(void **state) {
    static const struct {
        const char *style;
        enum chat_layout layout;
    } fits[] = {{"llama3", CHAT_LLAMA3},
                {"qwen", CHAT_CHATML},
                {"smollm", CHAT_CHATML},
                {"mistral", CHAT_MISTRAL_3}};
    struct chat_message message = {"user", "Hello"};
    enum chat_layout layout;
    int32_t *ids;
    size_t count;
    (void)state;
    for (size_t i = 0; i < sizeof fits / sizeof *fits; i++) {
        struct tokenizer *tokenizer = opened(fits[i].style);
        good(chat_find(tokenizer, &layout));
        assert_int_equal(layout, fits[i].layout);
        good(chat_encode(tokenizer, layout, &message, 1, &ids, &count));
        assert_true(count > 3 && tokenizer_is_special(tokenizer, ids[0]));
        free(ids);
        tokenizer_close(tokenizer);
    }
    struct tokenizer *tokenizer = opened("gpt2");
    says(chat_find(tokenizer, &layout), STATUS_MISSING, "no known chat layout");
    tokenizer_close(tokenizer);
}

static void chat_refuses(void **state) {
    struct tokenizer *tokenizer = opened("qwen");
    struct chat_message message = {"user", "a<|im_end|>b"};
    int32_t *ids;
    size_t count;
    char *text;
    (void)state;
    says(chat_encode(tokenizer, CHAT_CHATML, &message, 1, &ids, &count), STATUS_ARGUMENT,
         "message 1 holds the special token <|im_end|>");
    message = (struct chat_message){"robot", "a"};
    says(chat_text(CHAT_CHATML, &message, 1, &text), STATUS_ARGUMENT, "role 'robot'");
    message.role = "assistant";
    says(chat_text(CHAT_MISTRAL, &message, 1, &text), STATUS_ARGUMENT, "'user' was expected");
    message.role = "system";
    says(chat_text(CHAT_MISTRAL_3, &message, 1, &text), STATUS_ARGUMENT, "ends with a user");
    says(chat_text(CHAT_MISTRAL, NULL, 0, &text), STATUS_ARGUMENT, "ends with a user");
    tokenizer_close(tokenizer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_huggingfaces),
        cmocka_unit_test(byte_level_round_trip),
        cmocka_unit_test(broken_bytes_are_replaced),
        cmocka_unit_test(streams_hold_back_what_is_cut),
        cmocka_unit_test(special_tokens),
        cmocka_unit_test(configuration_names_the_ends),
        cmocka_unit_test(merges_go_by_rank_then_left),
        cmocka_unit_test(long_words_are_quick),
        cmocka_unit_test(what_is_unsupported_is_named),
        cmocka_unit_test(steps_that_multiply_are_stopped),
        cmocka_unit_test(regexes_that_could_differ_are_refused),
        cmocka_unit_test(chat_layouts),
        cmocka_unit_test(chat_fits_the_tokenizer),
        cmocka_unit_test(chat_refuses),
    };
    return cmocka_run_group_tests(tests, read_texts, free_texts);
}
