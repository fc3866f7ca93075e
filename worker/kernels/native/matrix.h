// Rows times a weight matrix, in float32, bfloat16 or int8.
//
// A matrix lies in panels of 32 of its rows, which are columns of the product: for each step all 32,
// then the next step. So a product needs no sum across lanes, and is one walk through memory.
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "dot.h"

namespace tokenmill {

enum class Precision { kF32, kBf16, kInt8 };

inline int bytes_of(Precision precision) {
  return precision == Precision::kF32 ? 4 : precision == Precision::kBf16 ? 2 : 1;
}

struct Matrix {
  Precision precision;
  int num_rows, num_columns;
  bool is_precise;            // int8: rows come as two codes
  const char* panels;         // (num_panels, num_steps, 32, 4 bytes)
  std::vector<float> scales;  // int8: one a row, padded to whole panels
  std::vector<float> biases;  // padded likewise; empty: none

  int num_panels() const { return (num_rows + kPanel - 1) / kPanel; }
  int num_steps() const { return num_columns * bytes_of(precision) / 4; }
  int64_t panel_bytes() const { return num_steps() * kStepBytes; }
};

// Rows ready to be multiplied. Precise ones come in twos: codes, and what they leave.
struct Rows {
  const char* values;
  int64_t stride;            // bytes
  const float* scales;       // int8: (num_rows,)
  const int32_t* code_sums;  // int8: one a row of codes
  int num_rows;
};

// Where the rows of a matrix go. Paired: its halves alternate, 16 rows of the first, 16 of the second,
// so that a panel has both values of what is multiplied together.
inline int place_of(int row, int num_rows, bool is_paired) {
  if (!is_paired) return row;
  const int half = num_rows / 2, pair = row % half;
  return pair / kFloats * kPanel + pair % kFloats + (row < half ? 0 : kFloats);
}

// Copies a row-major weight into panels; what is missing in the last one becomes 0.
inline void pack(const char* weight, const Matrix& matrix, bool is_paired, char* panels) {
  const int bias = matrix.precision == Precision::kInt8 ? 128 : 0;
  const int64_t row_bytes = static_cast<int64_t>(matrix.num_columns) * bytes_of(matrix.precision);
  std::memset(panels, bias, matrix.num_panels() * matrix.panel_bytes());
  for (int row = 0; row < matrix.num_rows; ++row) {
    const char* from = weight + row * row_bytes;
    const int place = place_of(row, matrix.num_rows, is_paired);
    char* to = panels + place / kPanel * matrix.panel_bytes() + place % kPanel * 4;
    for (int64_t i = 0; i < row_bytes; i += 4, to += kStepBytes)
      for (int b = 0; b < 4; ++b) to[b] = static_cast<char>(from[i + b] + bias);
  }
}

// Value of a packed matrix.
inline float value_at(const Matrix& matrix, int row, int column) {
  const int64_t byte = static_cast<int64_t>(column) * bytes_of(matrix.precision);
  const char* at =
      matrix.panels + row / kPanel * matrix.panel_bytes() + byte / 4 * kStepBytes + row % kPanel * 4 + byte % 4;
  switch (matrix.precision) {
    case Precision::kF32: return *reinterpret_cast<const float*>(at);
    case Precision::kBf16: return from_bf16(*reinterpret_cast<const bf16*>(at));
    default: return (*reinterpret_cast<const uint8_t*>(at) - 128) * matrix.scales[row];
  }
}

// Makes values of the sums of a tile whose first row is first_row: of a row, 16 columns.
template <class T>
Floats finished(const Matrix& matrix, const Rows& rows, const typename T::Sums (*sums)[2], int first_row, int row,
                int panel, int half) {
  const int column = panel * kPanel + half * kFloats;
  Floats y;
  if constexpr (std::is_same_v<T, Int8>) {
    const int codes = matrix.is_precise ? 2 : 1;
    auto exact = [&](int code) {
      const __m512i shift = _mm512_set1_epi32(rows.code_sums[row * codes + code] * 128);
      return _mm512_cvtepi32_ps(_mm512_sub_epi32(sums[(row - first_row) * codes + code][half], shift));
    };
    y = matrix.is_precise ? fma(exact(1), all(1.0f / 254), exact(0)) : exact(0);
    y = y * load(matrix.scales.data() + column) * all(rows.scales[row]);
  } else {
    y = sums[row - first_row][half];
  }
  return matrix.biases.empty() ? y : y + load(matrix.biases.data() + column);
}

// How far ahead of its use a weight is asked for: memory answers within the time of 4 KiB.
constexpr int64_t kAheadBytes = 4096;
// Rows that stay in the second-level cache while the matrix passes by.
constexpr int64_t kCachedBytes = 320 << 10;

// Panels [first, last) of rows * matrix^T; finish(row, panel, left half, right half) takes them.
template <class T, class Finish>
void multiply(const Matrix& matrix, const Rows& rows, int first, int last, const Finish& finish) {
  const int codes = matrix.is_precise ? 2 : 1, most = kMaxTile / codes, num_steps = matrix.num_steps();
  const int64_t panel_bytes = matrix.panel_bytes();
  const int chunk = std::max<int64_t>(most, kCachedBytes / (rows.stride * codes) / most * most);
  typename T::Sums sums[kMaxTile][2];
  for (int begin = 0; begin < rows.num_rows; begin += chunk) {
    const int size = std::min(chunk, rows.num_rows - begin), num_tiles = (size + most - 1) / most;
    for (int panel = first; panel < last; ++panel) {
      const char* w = matrix.panels + panel * panel_bytes;
      for (int t = 0; t < num_tiles; ++t) {
        // Tiles of one size, as far as it goes: a last one of a single row would be a waste.
        const int row = begin + size * t / num_tiles, end = begin + size * (t + 1) / num_tiles;
        const char* x = rows.values + static_cast<int64_t>(row) * codes * rows.stride;
        const int height = (end - row) * codes;
        if (num_tiles == 1)
          tile_of<T, false, 2>(height, x, rows.stride, w, num_steps, {w + kAheadBytes, kStepBytes}, sums);
        else
          tile_of<T, false, 1>(height, x, rows.stride, w, num_steps,
                               {w + panel_bytes + panel_bytes / num_tiles * t, kStepBytes / num_tiles}, sums);
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
    case Precision::kInt8: return multiply<Int8>(matrix, rows, first, last, finish);
  }
}

}  // namespace tokenmill
