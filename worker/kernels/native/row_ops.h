// What happens to a row between two matrices.
#pragma once

#include "matrix.h"

namespace tokenmill {

// e^x, relative error below 1e-6 for x in [-87, 88]; below, 0. Polynomial of degree 5 on the
// fraction of x / ln 2.
inline __m512 exp16(__m512 x) {
  const __mmask16 tiny = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.0f), _CMP_LT_OQ);
  x = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-87.0f)), _mm512_set1_ps(88.0f));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  __m512 p = _mm512_set1_ps(1.9875691500e-4f);
  for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
  p = _mm512_add_ps(_mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r), _mm512_set1_ps(1.0f));
  return _mm512_maskz_mov_ps(static_cast<__mmask16>(~tiny), _mm512_scalef_ps(p, n));
}

// Rows on their way into a matrix: in its precision, and with what int8 needs beside.
class RowBuffer {
 public:
  void resize(int num_rows, int num_columns, const Matrix& matrix) {
    num_rows_ = num_rows;
    num_columns_ = num_columns;
    precision_ = matrix.precision;
    is_precise_ = matrix.is_precise;
    const int64_t values = static_cast<int64_t>(num_rows) * num_columns * (is_precise_ ? 2 : 1);
    const int64_t bytes = values * (precision_ == Precision::kF32 ? 4 : precision_ == Precision::kBf16 ? 2 : 1);
    if (static_cast<int64_t>(bytes_.size()) < bytes) bytes_.resize(bytes);
    if (static_cast<int>(scales_.size()) < num_rows) scales_.resize(num_rows);
  }

  Rows rows() const { return {bytes_.data(), scales_.data(), num_rows_}; }

  void put(int row, const float* values) {
    const int64_t begin = static_cast<int64_t>(row) * num_columns_;
    switch (precision_) {
      case Precision::kF32:
        std::memcpy(reinterpret_cast<float*>(bytes_.data()) + begin, values, num_columns_ * 4);
        return;
      case Precision::kBf16: {
        auto* out = reinterpret_cast<bf16*>(bytes_.data()) + begin;
        for (int i = 0; i < num_columns_; i += 16)
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i),
                              (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(values + i)));
        return;
      }
      case Precision::kInt8: return put_codes(row, begin, values);
    }
  }

 private:
  // 127 steps of the row's largest magnitude; a precise row adds what is left in 254ths of a step.
  void put_codes(int row, int64_t begin, const float* values) {
    __m512 largest = _mm512_setzero_ps();
    for (int i = 0; i < num_columns_; i += 16)
      largest = _mm512_max_ps(largest, _mm512_abs_ps(_mm512_loadu_ps(values + i)));
    const float scale = std::max(_mm512_reduce_max_ps(largest) / 127.0f, 1e-30f);
    scales_[row] = scale;
    const __m512 step = _mm512_set1_ps(scale), zero_point = _mm512_set1_ps(128.0f);
    uint8_t* out = bytes_.data() + begin;
    uint8_t* rest = out + static_cast<int64_t>(num_rows_) * num_columns_;
    for (int i = 0; i < num_columns_; i += 16) {
      const __m512 exact = _mm512_div_ps(_mm512_loadu_ps(values + i), step);
      const __m512 code = _mm512_roundscale_ps(exact, 0);
      store_codes(out + i, _mm512_add_ps(code, zero_point));
      if (is_precise_) {
        const __m512 left = _mm512_mul_ps(_mm512_sub_ps(exact, code), _mm512_set1_ps(254.0f));
        store_codes(rest + i, _mm512_add_ps(_mm512_roundscale_ps(left, 0), zero_point));
      }
    }
  }

  static void store_codes(uint8_t* to, __m512 codes) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(codes)));
  }

  int num_rows_ = 0, num_columns_ = 0;
  Precision precision_ = Precision::kF32;
  bool is_precise_ = false;
  std::vector<uint8_t> bytes_;
  std::vector<float> scales_;
};

// out = x / rms(x) * weight. Sizes are multiples of 16. out may be x.
inline void rms_norm(const float* x, const float* weight, int size, float eps, float* out) {
  __m512 squares = _mm512_setzero_ps();
  for (int i = 0; i < size; i += 16) {
    const __m512 v = _mm512_loadu_ps(x + i);
    squares = _mm512_fmadd_ps(v, v, squares);
  }
  const __m512 factor = _mm512_set1_ps(1.0f / std::sqrt(_mm512_reduce_add_ps(squares) / size + eps));
  for (int i = 0; i < size; i += 16)
    _mm512_storeu_ps(out + i, _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(x + i), factor),
                                            _mm512_loadu_ps(weight + i)));
}

// gate = silu(gate) * up.
inline void silu_and_multiply(float* gate, const float* up, int size) {
  const __m512 one = _mm512_set1_ps(1.0f);
  for (int i = 0; i < size; i += 16) {
    const __m512 g = _mm512_loadu_ps(gate + i);
    const __m512 sigmoid = _mm512_div_ps(one, _mm512_add_ps(one, exp16(_mm512_sub_ps(_mm512_setzero_ps(), g))));
    _mm512_storeu_ps(gate + i, _mm512_mul_ps(_mm512_mul_ps(g, sigmoid), _mm512_loadu_ps(up + i)));
  }
}

// Turns value i of a head together with value i + head_dim / 2.
inline void rotate(float* head, const float* cos, const float* sin, int head_dim) {
  const int half = head_dim / 2;
  for (int i = 0; i < half; ++i) {
    const float a = head[i], b = head[i + half];
    head[i] = a * cos[i] - b * sin[i];
    head[i + half] = b * cos[i] + a * sin[i];
  }
}

}  // namespace tokenmill
