/* chat.h - messages as the text that a model was tuned on, for three layouts.
 *
 *   Llama 3   <|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>...
 *   ChatML    <|im_start|>user\nHello<|im_end|>\n...                  (Qwen, SmolLM)
 *   Mistral   <s>[INST] Hello [/INST] Hi</s>...                       (instruct, its first layout)
 *             <s>[INST] Hello[/INST] Hi</s>...                        ([INST] a token of its own)
 *             <s>[INST]Hello[/INST]Hi</s>...                          (the same, byte level)
 *
 * Nothing is added that a template may add beside (default system messages, dates, tools).
 */
#ifndef FASTINFER_CHAT_H
#define FASTINFER_CHAT_H

#include "engine/tokenizer.h"

enum chat_layout { CHAT_LLAMA3, CHAT_CHATML, CHAT_MISTRAL, CHAT_MISTRAL_3, CHAT_MISTRAL_TEKKEN };
const char *chat_name(enum chat_layout layout);

struct chat_message {
    const char *role; /* "system", "user", "assistant" */
    const char *content;
};

/* The layout whose special tokens the tokenizer has; STATUS_MISSING where none fits. */
enum status chat_find(const struct tokenizer *tokenizer, enum chat_layout *out);

/* The ids of the messages and of what begins the answer. Contents may not hold special tokens,
 * which would end their message: STATUS_ARGUMENT, as for an unknown role and, in Mistral's, for
 * messages that do not go system (may be missing), user, assistant, user, ... user. Llama 3 trims
 * contents, as its template does; Mistral's system message goes before the last user message, in
 * its first layout before the first. The caller frees *ids. */
enum status chat_encode(struct tokenizer *tokenizer, enum chat_layout layout,
                        const struct chat_message *messages, size_t count, int32_t **ids,
                        size_t *id_count);
/* The same as text, with a final 0; the caller frees it. */
enum status chat_text(enum chat_layout layout, const struct chat_message *messages, size_t count,
                      char **out);

#endif
