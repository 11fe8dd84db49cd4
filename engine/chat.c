#include "engine/chat.h"

#include <stdlib.h>
#include <string.h>

#include "engine/tokenizer_text.h"

const char *chat_name(enum chat_layout layout) {
    static const char *const names[] = {"Llama 3", "ChatML", "Mistral", "Mistral v3",
                                        "Mistral Tekken"};
    return names[layout];
}

static bool has(const struct tokenizer *tokenizer, const char *name) {
    return tokenizer_is_special(tokenizer, tokenizer_id(tokenizer, name));
}

enum status chat_find(const struct tokenizer *tokenizer, enum chat_layout *out) {
    if (has(tokenizer, "<|start_header_id|>") && has(tokenizer, "<|end_header_id|>") &&
        has(tokenizer, "<|eot_id|>"))
        *out = CHAT_LLAMA3;
    else if (has(tokenizer, "<|im_start|>") && has(tokenizer, "<|im_end|>"))
        *out = CHAT_CHATML;
    else if (has(tokenizer, "[INST]") && has(tokenizer, "[/INST]") && has(tokenizer, "</s>"))
        *out = tokenizer_id(tokenizer, "\xe2\x96\x81") >= 0 ? CHAT_MISTRAL_3 : CHAT_MISTRAL_TEKKEN;
    else
        return fail(STATUS_MISSING,
                    "the tokenizer has the special tokens of no known chat layout (<|eot_id|> of "
                    "Llama 3, <|im_start|> of ChatML, [INST] of Mistral)");
    return STATUS_OK;
}

static enum status put(struct text *out, const char *words) {
    return text_add(out, words, strlen(words));
}

static bool is_role(const struct chat_message *message, const char *role) {
    return !strcmp(message->role, role);
}

/* Contents between the same words before and after. */
static enum status headed(enum chat_layout layout, const struct chat_message *messages,
                          size_t count, struct text *out) {
    bool llama = layout == CHAT_LLAMA3;
    if (llama) TRY(put(out, "<|begin_of_text|>"));
    for (size_t i = 0; i <= count; i++) {
        const char *content = i < count ? messages[i].content : "";
        size_t bytes = strlen(content);
        while (llama && bytes && strchr(" \t\r\n\v\f", content[bytes - 1])) bytes--;
        while (llama && bytes && strchr(" \t\r\n\v\f", *content)) content++, bytes--;
        TRY(put(out, llama ? "<|start_header_id|>" : "<|im_start|>"));
        TRY(put(out, i < count ? messages[i].role : "assistant"));
        TRY(put(out, llama ? "<|end_header_id|>\n\n" : "\n"));
        TRY(text_add(out, content, bytes));
        if (i < count) TRY(put(out, llama ? "<|eot_id|>" : "<|im_end|>\n"));
    }
    return STATUS_OK;
}

static enum status instructed(enum chat_layout layout, const struct chat_message *messages,
                              size_t count, struct text *out) {
    const char *system = count && is_role(messages, "system") ? messages[0].content : NULL;
    size_t first = system ? 1 : 0, bearer = layout == CHAT_MISTRAL ? first : count - 1;
    const char *before = layout == CHAT_MISTRAL_TEKKEN ? "" : " ";
    if (count <= first || (count - first) % 2 == 0)
        return fail(STATUS_ARGUMENT, "a Mistral chat ends with a user message; %zu were given",
                    count);
    TRY(put(out, "<s>"));
    for (size_t i = first; i < count; i++) {
        bool user = (i - first) % 2 == 0;
        if (!is_role(&messages[i], user ? "user" : "assistant"))
            return fail(STATUS_ARGUMENT, "message %zu is from '%.40s'; '%s' was expected", i + 1,
                        messages[i].role, user ? "user" : "assistant");
        if (user) TRY(put(out, "[INST]"));
        TRY(put(out, before));
        if (system && i == bearer) {
            TRY(put(out, system));
            TRY(put(out, "\n\n"));
        }
        TRY(put(out, messages[i].content));
        if (user && layout == CHAT_MISTRAL) TRY(put(out, " "));
        TRY(put(out, user ? "[/INST]" : "</s>"));
    }
    return STATUS_OK;
}

enum status chat_text(enum chat_layout layout, const struct chat_message *messages, size_t count,
                      char **out) {
    struct text text = {0};
    enum status status = STATUS_OK;
    *out = NULL;
    for (size_t i = 0; i < count && !status; i++)
        if (!is_role(&messages[i], "system") && !is_role(&messages[i], "user") &&
            !is_role(&messages[i], "assistant"))
            status = fail(STATUS_ARGUMENT,
                          "message %zu: role '%.40s'; system, user or assistant was expected",
                          i + 1, messages[i].role);
    bool heads = layout == CHAT_LLAMA3 || layout == CHAT_CHATML;
    if (!status) status = (heads ? headed : instructed)(layout, messages, count, &text);
    if (!status) status = text_add(&text, "", 1);
    if (status)
        text_free(&text);
    else
        *out = text.data;
    return status;
}

static enum status check_content(struct tokenizer *tokenizer, const char *content, size_t index) {
    int32_t *ids, special = -1;
    size_t count, bytes;
    TRY(tokenizer_encode(tokenizer, content, strlen(content), false, &ids, &count));
    for (size_t i = 0; i < count && special < 0; i++)
        if (tokenizer_is_special(tokenizer, ids[i])) special = ids[i];
    free(ids);
    if (special < 0) return STATUS_OK;
    const char *name = tokenizer_content(tokenizer, special, &bytes);
    return fail(STATUS_ARGUMENT, "message %zu holds the special token %.*s", index + 1,
                (int)(bytes < 80 ? bytes : 80), name);
}

enum status chat_encode(struct tokenizer *tokenizer, enum chat_layout layout,
                        const struct chat_message *messages, size_t count, int32_t **ids,
                        size_t *id_count) {
    char *text;
    *ids = NULL, *id_count = 0;
    for (size_t i = 0; i < count; i++) TRY(check_content(tokenizer, messages[i].content, i));
    TRY(chat_text(layout, messages, count, &text));
    enum status status = tokenizer_encode(tokenizer, text, strlen(text), false, ids, id_count);
    free(text);
    return status;
}
