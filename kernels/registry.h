/* registry.h - every kernel there is. */
#ifndef KERNELS_REGISTRY_H
#define KERNELS_REGISTRY_H

#include "runtime/kernel.h"

int registry_count(void);
const struct kernel *registry_at(int index);
/* A name that is not there fails with the nearest that is. */
enum status registry_find(const char *name, const struct kernel **out);
/* Compiles and loads every DIR/<op>/<op>.c (which defines `const struct kernel kernel_<op>`) with
 * the host compiler and adds it; its .cu lies beside it. A kernel of the same name replaces ours.
 */
enum status registry_add_folder(const char *folder);

#endif
