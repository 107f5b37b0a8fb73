#ifndef CCOMPRESSION_SHIM_H
#define CCOMPRESSION_SHIM_H

#include <lz4frame.h>
#include <zstd.h>

#endif
