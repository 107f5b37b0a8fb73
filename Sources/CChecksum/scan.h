#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/*
 * How many bytes from `bytes` on are printable ASCII other than a quotation mark and a backslash: what a JSON string may
 * hold without anything to look at. Reads up to 16 bytes beyond the last of them, which must be readable; something else
 * must come some time.
 */
#if defined(__x86_64__)

typedef signed char ft_scan_bytes __attribute__((vector_size(16)));

static inline size_t ft_plain_count(const unsigned char *bytes) {
    for (size_t count = 0;; count += 16) {
        ft_scan_bytes part;
        memcpy(&part, bytes + count, sizeof part);
        /* As signed numbers, bytes beyond ASCII are below a space too. */
        ft_scan_bytes special = (part < 0x20) | (part == '"') | (part == '\\');
        int mask = __builtin_ia32_pmovmskb128((__attribute__((vector_size(16))) char)special);
        if (mask != 0) return count + (size_t)__builtin_ctz((unsigned)mask);
    }
}

#else

static inline size_t ft_plain_count(const unsigned char *bytes) {
    size_t count = 0;
    while (bytes[count] >= 0x20 && bytes[count] < 0x80 && bytes[count] != '"' && bytes[count] != '\\') count++;
    return count;
}

#endif

/* Whether two texts of `count` bytes are the same. */
static inline int ft_is_same(const void *text, const void *other, size_t count) { return memcmp(text, other, count) == 0; }
