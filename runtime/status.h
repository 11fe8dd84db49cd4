/* status.h - what a fallible function returns, and the sentence that explains it.
 *
 * A function that can fail returns enum status and puts its outputs last. fail() records a
 * sentence for the calling thread (what, where, what was expected) and returns the code; TRY()
 * passes a failure on. Only main() prints the sentence and exits.
 */
#ifndef FASTINFER_STATUS_H
#define FASTINFER_STATUS_H

#include <stdarg.h>

/* X(name, text stored in the database, what it means) */
#define STATUS_LIST(X)                                                                             \
    X(OK, "ok", "it worked")                                                                       \
    X(ARGUMENT, "argument", "the caller asked for something that cannot be")                       \
    X(SYSTEM, "system", "the operating system refused")                                            \
    X(MEMORY, "memory", "out of memory, or an illegal or misaligned address")                      \
    X(MISSING, "missing", "a library, tool or device is not on this machine")                      \
    X(COMPILE, "compile", "the kernel did not compile")                                            \
    X(LAUNCH, "launch", "the kernel could not be launched, or broke a rule while running")         \
    X(TIMEOUT, "timeout", "it did not finish in its time")                                         \
    X(INCORRECT, "incorrect", "a result lies outside its error bound")                             \
    X(NONDETERMINISTIC, "nondeterministic", "two runs on the same input differ")                   \
    X(CRASH, "crash", "the worker process died")                                                   \
    X(FORMAT, "format", "a file or text is malformed")                                             \
    X(STORE, "store", "the database could not be read or written")                                 \
    X(INTERRUPTED, "interrupted", "the user asked to stop")

enum status {
#define X(name, text, meaning) STATUS_##name,
    STATUS_LIST(X)
#undef X
        STATUS_COUNT
};

/* The word stored in the database, and back; an unknown word gives STATUS_COUNT. */
const char *status_text(enum status status);
enum status status_parse(const char *text);

/* Records the sentence for this thread and returns `status`. At most 2047 bytes are kept. */
enum status fail(enum status status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Puts words in front of the recorded sentence, for a caller that knows more. */
enum status fail_context(enum status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The sentence last recorded on this thread; "" when there was none. */
const char *fail_message(void);

#define TRY(call)                                                                                  \
    do {                                                                                           \
        enum status try_status_ = (call);                                                          \
        if (try_status_) return try_status_;                                                       \
    } while (0)

#endif
