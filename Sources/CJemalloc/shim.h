#ifndef CJEMALLOC_SHIM_H
#define CJEMALLOC_SHIM_H

#include <stddef.h>
#include <stdint.h>
#include <jemalloc/jemalloc.h>

// A statistic of the allocator in bytes, zero when it keeps none; its figures are of the last refresh.
static inline size_t shim_heap_statistic(const char *name) {
  size_t value = 0;
  size_t length = sizeof(value);
  return mallctl(name, &value, &length, NULL, 0) == 0 ? value : 0;
}

static inline void shim_heap_refresh(void) {
  uint64_t epoch = 1;
  mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch));
}

#endif
