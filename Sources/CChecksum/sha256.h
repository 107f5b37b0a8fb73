#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/*
 * SHA-256 (FIPS 180-4) of two texts at a time by the processor's own instructions. Each round waits for the one before;
 * the rounds of two texts fill each other's waits, so that a pair takes little longer than one.
 */

#if defined(__x86_64__)

typedef int ft_sha_words __attribute__((vector_size(16)));
typedef char ft_sha_bytes __attribute__((vector_size(16)));

#define FT_SHA_TARGET __attribute__((target("sha,sse4.1,ssse3"), always_inline)) static inline

static inline int ft_sha256_is_available(void) {
    uint32_t a = 0, b = 0, c = 0, d = 0;
    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    if (a < 7) return 0;
    a = 7, c = 0;
    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return (b >> 29 & 1) && __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("ssse3");
}

/* The constants of section 4.2.2. */
static const uint32_t ft_sha256_constants[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* A text on its way; the state in the order that the instructions want: F E B A and H G D C. */
typedef struct {
    ft_sha_words abef;
    ft_sha_words cdgh;
} ft_sha_state;

FT_SHA_TARGET ft_sha_state ft_sha256_start(void) {
    return (ft_sha_state){
        {(int)0x9b05688c, (int)0x510e527f, (int)0xbb67ae85, (int)0x6a09e667},
        {(int)0x5be0cd19, (int)0x1f83d9ab, (int)0xa54ff53a, (int)0x3c6ef372},
    };
}

FT_SHA_TARGET ft_sha_words ft_sha256_load(const unsigned char *at) {
    ft_sha_bytes bytes;
    memcpy(&bytes, at, sizeof bytes);
    return (ft_sha_words)__builtin_shufflevector(bytes, bytes, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
}

/* Rounds 4·step to 4·step + 3; from step 4 on the words come from the sixteen before (section 6.2.2). */
FT_SHA_TARGET void ft_sha256_step(ft_sha_state *state, ft_sha_words words[4], const unsigned char *block, int step) {
    ft_sha_words constants, sum;
    if (step < 4) {
        words[step] = ft_sha256_load(block + 16 * step);
    } else {
        ft_sha_words before = words[(step + 3) & 3];
        ft_sha_words seventh = __builtin_shufflevector(words[(step + 2) & 3], before, 1, 2, 3, 4);
        ft_sha_words next = __builtin_ia32_sha256msg1(words[step & 3], words[(step + 1) & 3]);
        words[step & 3] = __builtin_ia32_sha256msg2(next + seventh, before);
    }
    memcpy(&constants, ft_sha256_constants + 4 * step, sizeof constants);
    sum = words[step & 3] + constants;
    state->cdgh = __builtin_ia32_sha256rnds2(state->cdgh, state->abef, sum);
    sum = __builtin_shufflevector(sum, sum, 2, 3, 2, 3);
    state->abef = __builtin_ia32_sha256rnds2(state->abef, state->cdgh, sum);
}

FT_SHA_TARGET void ft_sha256_block(ft_sha_state *state, const unsigned char *block) {
    ft_sha_state start = *state;
    ft_sha_words words[4];
#pragma clang loop unroll(full)
    for (int step = 0; step < 16; step++) ft_sha256_step(state, words, block, step);
    state->abef += start.abef;
    state->cdgh += start.cdgh;
}

FT_SHA_TARGET void ft_sha256_blocks(
    ft_sha_state *one, const unsigned char *block, ft_sha_state *other, const unsigned char *other_block
) {
    ft_sha_state start = *one, other_start = *other;
    ft_sha_words words[4], other_words[4];
#pragma clang loop unroll(full)
    for (int step = 0; step < 16; step++) {
        ft_sha256_step(one, words, block, step);
        ft_sha256_step(other, other_words, other_block, step);
    }
    one->abef += start.abef;
    one->cdgh += start.cdgh;
    other->abef += other_start.abef;
    other->cdgh += other_start.cdgh;
}

/* A text and how far it is: whole blocks where it lies, then `end` with its rest, a one bit, zeros, its length in bits. */
typedef struct {
    const unsigned char *next;
    size_t whole;
    size_t blocks;
    size_t count;
    unsigned char end[128];
} ft_sha_text;

/* The rest of a text is copied when it is due: asked for ahead of what lies before it, it would be waited for. */
FT_SHA_TARGET void ft_sha256_end(ft_sha_text *text) {
    size_t rest = text->count & 63, end = rest < 56 ? 64 : 128;
    uint64_t bits = __builtin_bswap64((uint64_t)text->count << 3);
    memset(text->end, 0, end);
    memcpy(text->end, text->next, rest);
    text->end[rest] = 0x80;
    memcpy(text->end + end - 8, &bits, 8);
    text->next = text->end;
}

FT_SHA_TARGET void ft_sha256_begin(ft_sha_text *text, const unsigned char *bytes, size_t count) {
    text->whole = count >> 6;
    text->blocks = text->whole + ((count & 63) < 56 ? 1 : 2);
    text->count = count;
    text->next = bytes;
    if (text->whole == 0) ft_sha256_end(text);
}

FT_SHA_TARGET void ft_sha256_advance(ft_sha_text *text) {
    text->blocks--;
    text->next += 64;
    if (--text->whole == 0) ft_sha256_end(text);
}

FT_SHA_TARGET void ft_sha256_store(const ft_sha_state *state, unsigned char *digest) {
    uint32_t words[8] = {
        (uint32_t)state->abef[3], (uint32_t)state->abef[2], (uint32_t)state->cdgh[3], (uint32_t)state->cdgh[2],
        (uint32_t)state->abef[1], (uint32_t)state->abef[0], (uint32_t)state->cdgh[1], (uint32_t)state->cdgh[0],
    };
    for (int place = 0; place < 8; place++) words[place] = __builtin_bswap32(words[place]);
    memcpy(digest, words, 32);
}

/* The hash of a text, 32 bytes. */
__attribute__((target("sha,sse4.1,ssse3"), noinline)) static inline void ft_sha256(
    const void *text, size_t count, void *digest
) {
    ft_sha_text one;
    ft_sha256_begin(&one, (const unsigned char *)text, count);
    ft_sha_state state = ft_sha256_start();
    for (; one.blocks > 0; ft_sha256_advance(&one)) ft_sha256_block(&state, one.next);
    ft_sha256_store(&state, (unsigned char *)digest);
}

/* The hashes of two texts, 32 bytes each; the texts may be one and the same. */
__attribute__((target("sha,sse4.1,ssse3"), noinline)) static inline void ft_sha256_pair(
    const void *text, size_t count, void *digest, const void *other_text, size_t other_count, void *other_digest
) {
    ft_sha_text one, other;
    ft_sha256_begin(&one, (const unsigned char *)text, count);
    ft_sha256_begin(&other, (const unsigned char *)other_text, other_count);
    ft_sha_state state = ft_sha256_start(), other_state = ft_sha256_start();
    for (; one.blocks > 0 && other.blocks > 0; ft_sha256_advance(&one), ft_sha256_advance(&other)) {
        ft_sha256_blocks(&state, one.next, &other_state, other.next);
    }
    for (; one.blocks > 0; ft_sha256_advance(&one)) ft_sha256_block(&state, one.next);
    for (; other.blocks > 0; ft_sha256_advance(&other)) ft_sha256_block(&other_state, other.next);
    ft_sha256_store(&state, (unsigned char *)digest);
    ft_sha256_store(&other_state, (unsigned char *)other_digest);
}

#undef FT_SHA_TARGET

#else

static inline int ft_sha256_is_available(void) { return 0; }

static inline void ft_sha256(const void *text, size_t count, void *digest) { (void)text, (void)count, (void)digest; }

static inline void ft_sha256_pair(
    const void *text, size_t count, void *digest, const void *other_text, size_t other_count, void *other_digest
) {
    (void)text, (void)count, (void)digest, (void)other_text, (void)other_count, (void)other_digest;
}

#endif
