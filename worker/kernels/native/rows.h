// Rows on their way into a matrix: in its precision, and with what int8 needs beside.
#pragma once

#include <cmath>
#include <vector>

#include "matrix.h"

namespace tokenmill {

class RowBuffer {
 public:
  // Room for the rows of any of a stack's matrices with so many columns.
  void reserve(int num_rows, int num_columns) {
    const size_t size = static_cast<size_t>(num_rows) * (num_columns * sizeof(float) + kGap);
    if (bytes_.size() < size) bytes_.resize(size);
    if (scales_.size() < static_cast<size_t>(num_rows)) scales_.resize(num_rows);
    if (code_sums_.size() < static_cast<size_t>(num_rows) * 2) code_sums_.resize(num_rows * 2);
  }

  Rows rows(const Matrix& matrix, int num_rows) const {
    return {bytes_.data(), stride(matrix), scales_.data(), code_sums_.data(), num_rows};
  }

  void put(const Matrix& matrix, int row, const float* values) {
    char* to = bytes_.data() + row * codes_of(matrix) * stride(matrix);
    const int size = matrix.num_columns;
    switch (matrix.precision) {
      case Precision::kF32:
        std::memcpy(to, values, static_cast<size_t>(size) * 4);
        return;
      case Precision::kBf16:
        for (int i = 0; i < size; i += kFloats) store(reinterpret_cast<bf16*>(to) + i, load(values + i));
        return;
      default:
        put_codes(matrix, row, reinterpret_cast<int8_t*>(to), values);
    }
  }

 private:
  // Rows a power of two apart would share their places in the cache.
  static constexpr int kGap = 128;

  static int codes_of(const Matrix& matrix) { return matrix.is_precise ? 2 : 1; }
  static int64_t stride(const Matrix& matrix) {
    return static_cast<int64_t>(matrix.num_columns) * bytes_of(matrix.precision) + kGap / 2;
  }

  // 127 steps of the row's largest magnitude; a precise row adds what is left in 254ths of a step.
  void put_codes(const Matrix& matrix, int row, int8_t* codes, const float* values) {
    const int size = matrix.num_columns;
    Floats peak = zeros();
    for (int i = 0; i < size; i += kFloats) peak = larger(peak, magnitude(load(values + i)));
    const float scale = std::max(largest(peak) / 127.0f, 1e-30f);
    scales_[row] = scale;
    const Floats per_step = all(1.0f / scale), most = all(127.0f), least = all(-127.0f);
    int8_t* rest = codes + stride(matrix);
    Floats code_sum = zeros(), rest_sum = zeros();
    for (int i = 0; i < size; i += kFloats) {
      const Floats exact = load(values + i) * per_step;
      const Floats code = smaller(larger(rounded(exact), least), most);
      code_sum = code_sum + code;  // exact: whole numbers far below 2^24
      store(codes + i, code);
      if (matrix.is_precise) {
        const Floats left = smaller(larger(rounded((exact - code) * all(254.0f)), least), most);
        rest_sum = rest_sum + left;
        store(rest + i, left);
      }
    }
    code_sums_[row * codes_of(matrix)] = static_cast<int32_t>(sum(code_sum));
    if (matrix.is_precise) code_sums_[row * 2 + 1] = static_cast<int32_t>(sum(rest_sum));
  }

  std::vector<char> bytes_;
  std::vector<float> scales_;
  std::vector<int32_t> code_sums_;
};

// out = x / rms(x) * weight. Sizes are multiples of 16. out may be x.
inline void rms_norm(const float* x, const float* weight, int size, float eps, float* out) {
  Floats squares = zeros();
  for (int i = 0; i < size; i += kFloats) squares = fma(load(x + i), load(x + i), squares);
  const Floats factor = all(1.0f / std::sqrt(sum(squares) / size + eps));
  for (int i = 0; i < size; i += kFloats) store(out + i, load(x + i) * factor * load(weight + i));
}

// Turns value i of a head together with value i + head_dim / 2; head_dim is a multiple of 32.
inline void rotate(float* head, const float* cos, const float* sin, int head_dim) {
  const int half = head_dim / 2;
  for (int i = 0; i < half; i += kFloats) {
    const Floats a = load(head + i), b = load(head + i + half), c = load(cos + i), s = load(sin + i);
    store(head + i, a * c - b * s);
    store(head + i + half, b * c + a * s);
  }
}

}  // namespace tokenmill
