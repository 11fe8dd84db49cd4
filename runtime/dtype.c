/* dtype.c - number formats on the host. Written apart from simt.h's conversions on purpose: the
 * references that judge the kernels must not share their code. */
#include "runtime/kernel.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

static const struct {
    const char *name;
    size_t bytes;
    int digits;   /* of the significand, the hidden one too */
    int smallest; /* exponent of the smallest subnormal */
} formats[DTYPE_COUNT] = {
    [DTYPE_F16] = {"fp16", 2, 11, -24},  [DTYPE_BF16] = {"bf16", 2, 8, -133},
    [DTYPE_F32] = {"fp32", 4, 24, -149}, [DTYPE_I32] = {"int32", 4, 31, 0},
    [DTYPE_U8] = {"uint8", 1, 8, 0},
};

size_t dtype_bytes(enum dtype dtype) { return formats[dtype].bytes; }
const char *dtype_name(enum dtype dtype) {
    return dtype < DTYPE_COUNT ? formats[dtype].name : "unknown";
}

enum dtype dtype_parse(const char *text) {
    for (int i = 0; i < DTYPE_COUNT; i++)
        if (!strcmp(formats[i].name, text)) return (enum dtype)i;
    return DTYPE_COUNT;
}

double dtype_roundoff(enum dtype dtype) {
    return dtype <= DTYPE_F32 ? ldexp(1, -formats[dtype].digits) : 0;
}

double dtype_floor(enum dtype dtype) {
    /* GPUs and hosts agree on fp16 subnormals; fp32 arithmetic behind bf16 and fp32 results may
     * flush below 2^-126, so there the floor is the smallest normal number. */
    if (dtype == DTYPE_F16) return ldexp(1, formats[dtype].smallest - 1);
    return dtype <= DTYPE_F32 ? 0x1p-126 : 0;
}

static double decode_half(uint16_t bits) {
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double value = exponent == 31 ? (fraction ? NAN : INFINITY)
                                  : ldexp(exponent ? 1024 + fraction : fraction,
                                          (exponent ? exponent : 1) - 25);
    return bits & 0x8000 ? -value : value;
}

/* Every half there is: references and judgements decode millions of them. */
static double half_table[1 << 16];
static void fill_half_table(void) {
    for (uint32_t bits = 0; bits < 1 << 16; bits++) half_table[bits] = decode_half((uint16_t)bits);
}
static double half_value(uint16_t bits) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fill_half_table);
    return half_table[bits];
}

/* To nearest even: what is cut off decides by carrying into the part that stays, and from there
 * into the exponent, up to infinity. Below the smallest normal half the steps are all alike. */
static uint16_t half_bits(float value) {
    enum { CUT = 13, BIAS = (127 - 15) << 10 };
    uint32_t word;
    memcpy(&word, &value, 4);
    uint16_t sign = (uint16_t)(word >> 16 & 0x8000);
    word &= 0x7fffffff;
    if (word > 0x7f800000) return sign | 0x7e00;
    if (word < 0x38800000) return sign | (uint16_t)nearbyint(fabs((double)value) * 0x1p24);
    uint32_t half = (word + 0xfff + (word >> CUT & 1)) >> CUT;
    return sign | (uint16_t)(half >= BIAS + 0x7c00 ? 0x7c00 : half - BIAS);
}

double dtype_load(enum dtype dtype, const void *array, int64_t index) {
    const char *at = (const char *)array + index * (int64_t)formats[dtype].bytes;
    uint16_t half;
    uint32_t word;
    float single;
    switch (dtype) {
    case DTYPE_F16:
        memcpy(&half, at, 2);
        return half_value(half);
    case DTYPE_BF16:
        memcpy(&half, at, 2);
        word = (uint32_t)half << 16;
        memcpy(&single, &word, 4);
        return (double)single;
    case DTYPE_F32:
        memcpy(&single, at, 4);
        return (double)single;
    case DTYPE_I32:
        memcpy(&word, at, 4);
        return (double)(int32_t)word;
    default:
        return (double)*(const uint8_t *)at;
    }
}

void dtype_store(enum dtype dtype, void *array, int64_t index, float value) {
    char *at = (char *)array + index * (int64_t)formats[dtype].bytes;
    uint16_t half;
    uint32_t word;
    int32_t integer;
    switch (dtype) {
    case DTYPE_F16:
        half = half_bits(value);
        memcpy(at, &half, 2);
        break;
    case DTYPE_BF16:
        memcpy(&word, &value, 4);
        if (isnan(value))
            half = (uint16_t)(word >> 16 | 0x40);
        else
            half = (uint16_t)((word + 0x7fff + (word >> 16 & 1)) >> 16);
        memcpy(at, &half, 2);
        break;
    case DTYPE_F32:
        memcpy(at, &value, 4);
        break;
    case DTYPE_I32:
        integer = (int32_t)value;
        memcpy(at, &integer, 4);
        break;
    default:
        *(uint8_t *)at = (uint8_t)value;
    }
}

void dtype_load_row(enum dtype dtype, const void *array, int64_t index, int64_t count,
                    double *out) {
    const uint16_t *half = (const uint16_t *)array + index;
    if (dtype != DTYPE_F16) {
        for (int64_t i = 0; i < count; i++) out[i] = dtype_load(dtype, array, index + i);
        return;
    }
    half_value(0); /* the table is there */
    for (int64_t i = 0; i < count; i++) out[i] = half_table[half[i]];
}

void dtype_store_row(enum dtype dtype, void *array, int64_t index, int64_t count,
                     const float *value) {
    uint16_t *half = (uint16_t *)array + index;
    for (int64_t i = 0; i < count && dtype == DTYPE_F16; i++) half[i] = half_bits(value[i]);
    for (int64_t i = 0; i < count && dtype != DTYPE_F16; i++)
        dtype_store(dtype, array, index + i, value[i]);
}
