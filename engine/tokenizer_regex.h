/* tokenizer_regex.h - a regular expression of Oniguruma's, in PCRE2's words. */
#ifndef FASTINFER_TOKENIZER_REGEX_H
#define FASTINFER_TOKENIZER_REGEX_H

#include "engine/tokenizer_text.h"

/* Adds to `out` what PCRE2, with UTF, UCP and MULTILINE, matches as Oniguruma in Ruby's syntax
 * matches `regex`. STATUS_FORMAT, naming the construct, where it has none or none was tried. */
enum status regex_rewrite(const char *regex, size_t bytes, struct text *out);

/* Characters for the inside of a class: \s, what is not \s, and \w. */
#define REGEX_SPACE                                                                                \
    "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}"       \
    "\\x{3000}"
#define REGEX_NOT_SPACE                                                                            \
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}!-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}"      \
    "\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}"                 \
    "\\x{3001}-\\x{10ffff}"
#define REGEX_WORD                                                                                 \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}"                    \
    "\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"

#endif
