#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/*
 * Where the quotation marks of a JSON text stand, and whether it has what needs a closer look. In a text without
 * backslashes every quotation mark begins or ends a string, so that whoever knows them need not look for the ends of
 * strings.
 */

/* What a text has: control characters or backslashes; bytes beyond ASCII. */
enum { FT_TEXT_IS_SPECIAL = 1, FT_TEXT_IS_WIDE = 2 };

/* Room that `places` must have beyond one for each byte of the text. */
enum { FT_QUOTES_SLACK = 64 };

/* What no place is: texts are shorter. */
enum { FT_QUOTE_NONE = 0xFFFF };

typedef struct {
    size_t count;
    int flags;
} ft_quotes;

static inline ft_quotes ft_find_quotes_portable(const unsigned char *text, size_t count, uint16_t *places) {
    ft_quotes found = {0, 0};
    for (size_t at = 0; at < count; at++) {
        unsigned char byte = text[at];
        if (byte == '"') places[found.count++] = (uint16_t)at;
        if (byte < 0x20 || byte == '\\') found.flags |= FT_TEXT_IS_SPECIAL;
        if (byte >= 0x80) found.flags |= FT_TEXT_IS_WIDE;
    }
    places[found.count] = places[found.count + 1] = FT_QUOTE_NONE;
    return found;
}

#if defined(__x86_64__)

static inline int ft_can_find_quotes_fast(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("popcnt");
}

#define FT_SCAN_TARGET __attribute__((target("avx2,bmi,popcnt"), always_inline)) static inline

typedef char ft_scan_bytes __attribute__((vector_size(32)));

FT_SCAN_TARGET uint64_t ft_scan_mask(ft_scan_bytes low, ft_scan_bytes high) {
    return (uint32_t)__builtin_ia32_pmovmskb256(low) | (uint64_t)(uint32_t)__builtin_ia32_pmovmskb256(high) << 32;
}

/* 64 bytes from `at` on; places are written eight at a time, because branches that depend on texts cost more. */
FT_SCAN_TARGET uint16_t *ft_scan_part(const unsigned char *bytes, size_t at, uint16_t *next, uint64_t seen[2]) {
    ft_scan_bytes low, high;
    memcpy(&low, bytes, sizeof low);
    memcpy(&high, bytes + sizeof low, sizeof high);
    uint64_t quotes = ft_scan_mask((ft_scan_bytes)(low == '"'), (ft_scan_bytes)(high == '"'));
    /* As signed numbers, bytes beyond ASCII are below a space too. */
    uint64_t wide = ft_scan_mask(low, high);
    uint64_t below = ft_scan_mask(
        (ft_scan_bytes)((low < 0x20) | (low == '\\')), (ft_scan_bytes)((high < 0x20) | (high == '\\'))
    );
    seen[0] |= below & ~wide;
    seen[1] |= wide;
    size_t count = (size_t)__builtin_popcountll(quotes);
    for (size_t done = 0; done < count; done += 8) {
        for (size_t place = 0; place < 8; place++) {
            next[done + place] = (uint16_t)(at + __builtin_ia32_tzcnt_u64(quotes));
            quotes &= quotes - 1;
        }
    }
    return next + count;
}

/* `places` gets the place of every quotation mark, then twice `FT_QUOTE_NONE`. */
__attribute__((target("avx2,bmi,popcnt"), noinline)) static inline ft_quotes ft_find_quotes_fast(
    const unsigned char *text, size_t count, uint16_t *places
) {
    uint64_t seen[2] = {0, 0};
    uint16_t *next = places;
    size_t at = 0;
    for (; at + 64 <= count; at += 64) next = ft_scan_part(text + at, at, next, seen);
    if (at < count) {
        unsigned char end[64];
        memset(end, ' ', sizeof end);
        memcpy(end, text + at, count - at);
        next = ft_scan_part(end, at, next, seen);
    }
    next[0] = next[1] = FT_QUOTE_NONE;
    return (ft_quotes){
        (size_t)(next - places), (seen[0] ? FT_TEXT_IS_SPECIAL : 0) | (seen[1] ? FT_TEXT_IS_WIDE : 0)
    };
}

#undef FT_SCAN_TARGET

/* The same with vectors of 64 bytes, whose instructions pack the places that a mask names. */

static inline int ft_can_find_quotes_wide(void) {
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi2")
        && __builtin_cpu_supports("popcnt");
}

#define FT_WIDE_TARGET __attribute__((target("avx512f,avx512bw,avx512vbmi2,popcnt"), always_inline)) static inline

typedef char ft_wide_bytes __attribute__((vector_size(64)));
typedef unsigned char ft_wide_quarter __attribute__((vector_size(16)));
typedef uint16_t ft_wide_places __attribute__((vector_size(32)));

FT_WIDE_TARGET uint16_t *ft_wide_part(ft_wide_bytes bytes, size_t at, uint16_t *next, uint64_t seen[2]) {
    const ft_wide_bytes numbers = {
        0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
        22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
        44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63,
    };
    uint64_t quotes = __builtin_ia32_cvtb2mask512((ft_wide_bytes)(bytes == '"'));
    uint64_t wide = __builtin_ia32_cvtb2mask512(bytes);
    uint64_t below = __builtin_ia32_cvtb2mask512((ft_wide_bytes)((bytes < 0x20) | (bytes == '\\')));
    seen[0] |= below & ~wide;
    seen[1] |= wide;
    size_t count = (size_t)__builtin_popcountll(quotes);
    ft_wide_bytes packed = __builtin_ia32_compressqi512_mask(numbers, (ft_wide_bytes){0}, quotes);
    /* Seldom are there more than sixteen, and narrow writes cost less. */
    ft_wide_quarter quarter =
        (ft_wide_quarter)__builtin_shufflevector(packed, packed, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    ft_wide_places found = __builtin_convertvector(quarter, ft_wide_places) + (uint16_t)at;
    memcpy(next, &found, sizeof found);
    for (size_t done = 16; done < count; done += 16) {
        memcpy(&quarter, (const char *)&packed + done, sizeof quarter);
        found = __builtin_convertvector(quarter, ft_wide_places) + (uint16_t)at;
        memcpy(next + done, &found, sizeof found);
    }
    return next + count;
}

__attribute__((target("avx512f,avx512bw,avx512vbmi2,popcnt"), noinline)) static inline ft_quotes ft_find_quotes_wide(
    const unsigned char *text, size_t count, uint16_t *places
) {
    uint64_t seen[2] = {0, 0};
    uint16_t *next = places;
    size_t at = 0;
    ft_wide_bytes bytes;
    for (; at + sizeof bytes <= count; at += sizeof bytes) {
        memcpy(&bytes, text + at, sizeof bytes);
        next = ft_wide_part(bytes, at, next, seen);
    }
    if (at < count) {
        unsigned char end[64];
        memset(end, ' ', sizeof end);
        memcpy(end, text + at, count - at);
        memcpy(&bytes, end, sizeof bytes);
        next = ft_wide_part(bytes, at, next, seen);
    }
    next[0] = next[1] = FT_QUOTE_NONE;
    return (ft_quotes){
        (size_t)(next - places), (seen[0] ? FT_TEXT_IS_SPECIAL : 0) | (seen[1] ? FT_TEXT_IS_WIDE : 0)
    };
}

#undef FT_WIDE_TARGET

#else

static inline int ft_can_find_quotes_wide(void) { return 0; }

static inline ft_quotes ft_find_quotes_wide(const unsigned char *text, size_t count, uint16_t *places) {
    return ft_find_quotes_portable(text, count, places);
}

static inline int ft_can_find_quotes_fast(void) { return 0; }

static inline ft_quotes ft_find_quotes_fast(const unsigned char *text, size_t count, uint16_t *places) {
    return ft_find_quotes_portable(text, count, places);
}

#endif

/* Whether two texts of `count` bytes are the same. */
static inline int ft_is_same(const void *text, const void *other, size_t count) { return memcmp(text, other, count) == 0; }

/* How two texts stand to each other, as in memcmp. */
static inline int ft_compare(const void *text, const void *other, size_t count) { return memcmp(text, other, count); }

typedef unsigned char ft_hex_bytes __attribute__((vector_size(16)));

/* Whether `text` is the 64 lowercase hexadecimal digits of the 32 bytes of `digest`. */
static inline int ft_is_hex(const unsigned char *text, const unsigned char *digest) {
    ft_hex_bytes differs = {0};
    for (int half = 0; half < 2; half++) {
        ft_hex_bytes bytes, first, second;
        memcpy(&bytes, digest + 16 * half, sizeof bytes);
        ft_hex_bytes high = bytes >> 4, low = bytes & 0x0F;
        high = high + '0' + ((ft_hex_bytes)(high > 9) & ('a' - '0' - 10));
        low = low + '0' + ((ft_hex_bytes)(low > 9) & ('a' - '0' - 10));
        memcpy(&first, text + 32 * half, sizeof first);
        memcpy(&second, text + 32 * half + 16, sizeof second);
        differs |= first ^ __builtin_shufflevector(high, low, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        differs |= second
            ^ __builtin_shufflevector(high, low, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    }
    uint64_t words[2];
    memcpy(words, &differs, sizeof words);
    return (words[0] | words[1]) == 0;
}
