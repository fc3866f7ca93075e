// Rows times a matrix, panel by panel.
#pragma once

#include "int4.h"
#include "matrix.h"

namespace tokenmill {

// Value of a packed matrix.
inline float value_at(const Matrix& matrix, int row, int column) {
  const int lane = row % kPanel;
  const char* panel = matrix.panels + row / kPanel * matrix.panel_bytes();
  if (matrix.precision == Precision::kInt4) {
    const auto* group = reinterpret_cast<const uint8_t*>(panel + column / kGroup * kGroupBytes);
    const int both = group[2 * kPanel + column % kGroup / 8 * kStepBytes + lane * 4 + column % 4];
    const int code = group[kPanel + lane] - 128 + group[lane] * (column % 8 < 4 ? both & 15 : both >> 4);
    return std::clamp(code, -127, 127) * matrix.scales[row];
  }
  const int64_t byte = static_cast<int64_t>(column) * bytes_of(matrix.precision);
  const char* at = panel + byte / 4 * kStepBytes + lane * 4 + byte % 4;
  switch (matrix.precision) {
    case Precision::kF32: return *reinterpret_cast<const float*>(at);
    case Precision::kBf16: return from_bf16(*reinterpret_cast<const bf16*>(at));
    default: return static_cast<int8_t>(*at - kCodeBias) * matrix.scales[row];
  }
}

// How far ahead of its use a weight is asked for: memory answers within the time of 4 KiB.
constexpr int64_t kAheadBytes = 4096;
// Rows that stay in the second-level cache while the matrix passes by.
constexpr int64_t kCachedBytes = 384 << 10;

// Panels [first, last) of rows * matrix^T; finish(row, panel, left half, right half) takes them.
template <class T, class Finish>
void multiply(const Matrix& matrix, const Rows& rows, int first, int last, const Finish& finish) {
  const int codes = matrix.is_precise ? 2 : 1, most = kBestTile<T> / codes, num_steps = matrix.num_steps();
  const int64_t panel_bytes = matrix.panel_bytes();
  const bool is_int4 = matrix.precision == Precision::kInt4;
  static thread_local std::vector<char> unpacked;
  if (is_int4 && static_cast<int64_t>(unpacked.size()) < matrix.ready_bytes()) unpacked.resize(matrix.ready_bytes());
  const int num_chunks = static_cast<int>((rows.num_rows * codes * rows.stride + kCachedBytes - 1) / kCachedBytes);
  alignas(kLine) typename T::Sum sums[kMaxTile][kPanel];
  for (int c = 0; c < num_chunks; ++c) {
    const int begin = rows.num_rows * c / num_chunks, size = rows.num_rows * (c + 1) / num_chunks - begin;
    const int num_tiles = (size + most - 1) / most;
    for (int panel = first; panel < last; ++panel) {
      const char* packed = matrix.panels + panel * panel_bytes;
      if (is_int4) unpack_int4(packed, matrix.num_columns, unpacked.data());
      const char* w = is_int4 ? unpacked.data() : packed;
      for (int t = 0; t < num_tiles; ++t) {
        // Tiles of one size, as far as it goes: a last one of a single row would be a waste.
        const int row = begin + size * t / num_tiles, end = begin + size * (t + 1) / num_tiles;
        const char* x = rows.values + static_cast<int64_t>(row) * codes * rows.stride;
        const int height = (end - row) * codes;
        if (num_tiles == 1)
          tile_of<T, false, 2>(height, x, rows.stride, w, num_steps, {packed + kAheadBytes, kStepBytes}, sums);
        else
          tile_of<T, false, 1>(height, x, rows.stride, w, num_steps,
                               {packed + panel_bytes + panel_bytes / num_tiles * t, kStepBytes / num_tiles}, sums);
        for (int m = row; m < end; ++m)
          finish(m, panel, finished<T>(matrix, rows, sums, row, m, panel, 0),
                 finished<T>(matrix, rows, sums, row, m, panel, 1));
      }
    }
  }
}

template <class Finish>
void multiply(const Matrix& matrix, const Rows& rows, int first, int last, const Finish& finish) {
  switch (matrix.precision) {
    case Precision::kF32: return multiply<F32>(matrix, rows, first, last, finish);
    case Precision::kBf16: return multiply<Bf16>(matrix, rows, first, last, finish);
    default: return multiply<Int8>(matrix, rows, first, last, finish);
  }
}

}  // namespace tokenmill
