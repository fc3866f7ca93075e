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

enum class Precision { kF32, kBf16, kInt8, kInt4 };

// Of a value as it is multiplied.
inline int bytes_of(Precision precision) {
  return precision == Precision::kF32 ? 4 : precision == Precision::kBf16 ? 2 : 1;
}

struct Matrix {
  Precision precision;
  int num_rows, num_columns;
  bool is_precise;            // int8: rows come as two codes
  const char* panels;         // (num_panels, num_steps, 32, 4 bytes); int4: see int4.h
  std::vector<float> scales;  // integers: one a row, padded to whole panels
  std::vector<float> biases;  // padded likewise; empty: none

  int num_panels() const { return (num_rows + kPanel - 1) / kPanel; }
  int num_steps() const { return num_columns * bytes_of(precision) / 4; }
  int64_t ready_bytes() const { return num_steps() * kStepBytes; }
  // Four bits for each eight, and a step and a base for each 32.
  int64_t panel_bytes() const { return precision == Precision::kInt4 ? ready_bytes() * 9 / 16 : ready_bytes(); }
};

// Rows ready to be multiplied. Precise ones come in twos: codes, and what they leave.
struct Rows {
  const char* values;
  int64_t stride;            // bytes
  const float* scales;       // int8: (num_rows,)
  const int32_t* code_sums;  // int8: one a row of codes
  int num_rows;
};

// Rows [begin, end) of them.
inline Rows part_of(const Matrix& matrix, const Rows& rows, int begin, int end) {
  const int first = begin * (matrix.is_precise ? 2 : 1);
  return {rows.values + first * rows.stride, rows.stride, rows.scales + begin, rows.code_sums + first, end - begin};
}

// Where the rows of a matrix go. Paired: its halves alternate, 16 rows of the first, 16 of the second,
// so that a panel has both values of what is multiplied together.
inline int place_of(int row, int num_rows, bool is_paired) {
  if (!is_paired) return row;
  const int half = num_rows / 2, pair = row % half;
  return pair / kFloats * kPanel + pair % kFloats + (row < half ? 0 : kFloats);
}

// Copies a row-major weight into panels; what is missing in the last one becomes 0.
inline void pack(const char* weight, const Matrix& matrix, bool is_paired, char* panels) {
  const int bias = matrix.precision == Precision::kInt8 ? kCodeBias : 0;
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

// Makes values of the sums of a tile whose first row is first_row: of a row, 16 columns.
template <class T>
Floats finished(const Matrix& matrix, const Rows& rows, const typename T::Sum (*sums)[kPanel], int first_row, int row,
                int panel, int half) {
  const int column = panel * kPanel + half * kFloats;
  Floats y;
  if constexpr (std::is_same_v<T, Int8>) {
    const int codes = matrix.is_precise ? 2 : 1;
    auto exact = [&](int code) {
      return load_less(sums[(row - first_row) * codes + code] + half * kFloats,
                       rows.code_sums[row * codes + code] * kCodeBias);
    };
    y = matrix.is_precise ? fma(exact(1), all(1.0f / 254), exact(0)) : exact(0);
    y = y * load(matrix.scales.data() + column) * all(rows.scales[row]);
  } else {
    y = load(sums[row - first_row] + half * kFloats);
  }
  return matrix.biases.empty() ? y : y + load(matrix.biases.data() + column);
}

}  // namespace tokenmill
