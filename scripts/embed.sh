#!/bin/sh
# embed.sh FILE... - prints a C file that carries the files, byte for byte, as program_sources[].
set -eu
echo '#include "runtime/compile.h"'
echo 'extern const struct source program_sources[];'
n=0
for file in "$@"; do
    printf '__asm__(".section .rodata\\n.balign 16\\ncarried_%d:\\n.incbin \\"%s\\"\\n.byte 0\\n.text\\n");\n' "$n" "$file"
    printf 'extern const char carried_%d[];\n' "$n"
    n=$((n + 1))
done
# the sizes are constants, so that the table can be one too
n=0
for file in "$@"; do
    printf 'enum { bytes_%d = %d };\n' "$n" "$(wc -c < "$file")"
    n=$((n + 1))
done
echo 'const struct source program_sources[] = {'
n=0
for file in "$@"; do
    printf '    {"%s", carried_%d, bytes_%d},\n' "$file" "$n" "$n"
    n=$((n + 1))
done
echo '    {0, 0, 0},'
echo '};'
