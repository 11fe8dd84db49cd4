/* json_text.h - a string of a JSON object, for readers that treat absent and empty alike. */
#ifndef FASTINFER_JSON_TEXT_H
#define FASTINFER_JSON_TEXT_H

#include <jansson.h>

/* "" where there is no such key or it is no string. Lives as long as the object. */
static inline const char *json_text(const json_t *json, const char *key) {
    const char *text = json_string_value(json_object_get(json, key));
    return text ? text : "";
}

#endif
