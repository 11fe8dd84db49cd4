/* session_internal.h - what the files of a session share. */
#ifndef FASTINFER_SESSION_INTERNAL_H
#define FASTINFER_SESSION_INTERNAL_H

#include "harness/session.h"

/* Makes session->now the buffers of a problem under a policy. */
enum status session_subjects(struct session *session, const struct kernel *kernel,
                             const struct problem *problem, struct policy policy);

/* Gives session->now new buffers. */
enum status session_renew(struct session *session);

/* A variant on the odd problem first, where `timed` is the session's own, then on `timed`. */
enum status session_verify(struct session *session, struct subject *timed,
                           const struct variant *variant, struct record *record);

void session_begin_record(struct record *record, const char *subject, const struct kernel *kernel,
                          const struct problem *problem);
void session_take(struct record *record, const struct contender *contender);
/* The status and what fail_message() says of it. */
void session_failed(struct record *record, enum status status);
/* Is the device still usable after a failure of a point? An illegal address is not survived. */
enum status session_alive(struct session *session);

/* struct watch's: has the clock fallen since it was last asked? context: a session. */
bool session_disturbed(void *context);

#endif
