#include "runtime/status.h"

#include <stdio.h>
#include <string.h>

static _Thread_local char message[2048];

static const char *const texts[STATUS_COUNT] = {
#define X(name, text, meaning) text,
    STATUS_LIST(X)
#undef X
};

const char *status_text(enum status status) {
    return (unsigned)status < STATUS_COUNT ? texts[status] : "unknown";
}

enum status status_parse(const char *text) {
    for (int i = 0; i < STATUS_COUNT; i++)
        if (!strcmp(texts[i], text)) return (enum status)i;
    return STATUS_COUNT;
}

enum status fail(enum status status, const char *format, ...) {
    char text[sizeof message]; /* the old message may be among the arguments */
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    memcpy(message, text, sizeof message);
    return status;
}

enum status fail_context(enum status status, const char *format, ...) {
    char old[sizeof message];
    memcpy(old, message, sizeof old);
    va_list list;
    va_start(list, format);
    int n = vsnprintf(message, sizeof message, format, list);
    va_end(list);
    if (n >= 0 && (size_t)n + 3 < sizeof message) {
        size_t room = sizeof message - (size_t)n - 3, length = strlen(old);
        if (length > room) length = room;
        memcpy(message + n, ": ", 2);
        memcpy(message + n + 2, old, length);
        message[(size_t)n + 2 + length] = 0;
    }
    return status;
}

const char *fail_message(void) { return message; }
