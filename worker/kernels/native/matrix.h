// Rows times a weight matrix, in float32, bfloat16 or int8.
//
// Each output value is summed in one order, whatever else is computed beside it: lanes of a vector
// run along the columns, and are added up in a fixed tree. So a row's bits depend on nothing but it.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

namespace tokenmill {

using bf16 = uint16_t;

inline bf16 to_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return static_cast<bf16>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);  // to nearest even
}

inline float from_bf16(bf16 value) {
  const uint32_t bits = static_cast<uint32_t>(value) << 16;
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}

struct F32 {
  using X = float;
  using W = float;
  using Acc = __m512;
  static constexpr int kLanes = 16;
  static Acc zero() { return _mm512_setzero_ps(); }
  static __m512 load_x(const X* p) { return _mm512_loadu_ps(p); }
  static __m512 load_w(const W* p) { return _mm512_loadu_ps(p); }
  static Acc dot(Acc acc, __m512 x, __m512 w) { return _mm512_fmadd_ps(x, w, acc); }
};

struct Bf16 {
  using X = bf16;
  using W = bf16;
  using Acc = __m512;
  static constexpr int kLanes = 32;
  static Acc zero() { return _mm512_setzero_ps(); }
  static __m512bh load_x(const X* p) { return (__m512bh)_mm512_loadu_si512(p); }
  static __m512bh load_w(const W* p) { return (__m512bh)_mm512_loadu_si512(p); }
  static Acc dot(Acc acc, __m512bh x, __m512bh w) { return _mm512_dpbf16_ps(acc, x, w); }
};

struct Int8 {
  using X = uint8_t;  // codes + 128: VNNI multiplies unsigned by signed
  using W = int8_t;
  using Acc = __m512i;
  static constexpr int kLanes = 64;
  static Acc zero() { return _mm512_setzero_si512(); }
  static __m512i load_x(const X* p) { return _mm512_loadu_si512(p); }
  static __m512i load_w(const W* p) { return _mm512_loadu_si512(p); }
  static Acc dot(Acc acc, __m512i x, __m512i w) { return _mm512_dpbusd_epi32(acc, x, w); }
};

// The sums of four accumulators' lanes.
inline __m128 sum4(__m512 a, __m512 b, __m512 c, __m512 d) {
  auto half = [](__m512 v) { return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)); };
  const __m256 ab = _mm256_hadd_ps(half(a), half(b)), cd = _mm256_hadd_ps(half(c), half(d));
  const __m256 all = _mm256_hadd_ps(ab, cd);
  return _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
}

inline __m128 sum4(__m512i a, __m512i b, __m512i c, __m512i d) {
  auto half = [](__m512i v) {
    return _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
  };
  const __m256i ab = _mm256_hadd_epi32(half(a), half(b)), cd = _mm256_hadd_epi32(half(c), half(d));
  const __m256i all = _mm256_hadd_epi32(ab, cd);
  return _mm_castsi128_ps(_mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1)));
}

enum class Precision { kF32, kBf16, kInt8 };

inline int lanes_of(Precision precision) {
  return precision == Precision::kF32 ? F32::kLanes : precision == Precision::kBf16 ? Bf16::kLanes : Int8::kLanes;
}

inline int bytes_of(Precision precision) {
  return precision == Precision::kF32 ? 4 : precision == Precision::kBf16 ? 2 : 1;
}

// weight lies as it is read: four rows together, a vector of each in turn, so that a multiplication
// is one walk through memory: (num_rows / 4, num_columns / lanes, 4, lanes).
struct Matrix {
  Precision precision;
  int num_rows, num_columns;
  const void* weight;
  const float* scales = nullptr;  // int8: (num_rows,)
  std::vector<int32_t> code_sums; // int8: of each row
  bool is_precise = false;        // int8: rows come as two codes
  const float* bias = nullptr;
};

// Rows ready to be multiplied.
struct Rows {
  const void* values;  // int8 and precise: 2 * num_rows rows
  const float* scales; // int8: (num_rows,)
  int num_rows;
};

enum class Into { kStore, kAdd };

// Four columns of the result, for MR rows.
// How far ahead of its use a weight is asked for: memory answers within the time of 4 KiB.
constexpr int kPrefetchBytes = 4096;

template <class T, int MR, bool kPrefetch>
inline void tile(const typename T::X* x, const typename T::W* w, int64_t k, __m128* sums) {
  typename T::Acc acc[MR][4];
#pragma GCC unroll 4
  for (int m = 0; m < MR; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < 4; ++n) acc[m][n] = T::zero();
  for (int64_t i = 0; i < k; i += T::kLanes, w += 4 * T::kLanes) {
    const auto w0 = T::load_w(w), w1 = T::load_w(w + T::kLanes);
    const auto w2 = T::load_w(w + 2 * T::kLanes), w3 = T::load_w(w + 3 * T::kLanes);
    if (kPrefetch) {
      const char* ahead = reinterpret_cast<const char*>(w) + kPrefetchBytes;
      for (int n = 0; n < 4; ++n) _mm_prefetch(ahead + n * 64, _MM_HINT_T0);
    }
#pragma GCC unroll 4
    for (int m = 0; m < MR; ++m) {
      const auto v = T::load_x(x + m * k + i);
      acc[m][0] = T::dot(acc[m][0], v, w0);
      acc[m][1] = T::dot(acc[m][1], v, w1);
      acc[m][2] = T::dot(acc[m][2], v, w2);
      acc[m][3] = T::dot(acc[m][3], v, w3);
    }
  }
#pragma GCC unroll 4
  for (int m = 0; m < MR; ++m) sums[m] = sum4(acc[m][0], acc[m][1], acc[m][2], acc[m][3]);
}

template <class T, bool kPrefetch>
inline void tile_of(int mr, const typename T::X* x, const typename T::W* w, int64_t k, __m128* sums) {
  switch (mr) {
    case 1: return tile<T, 1, kPrefetch>(x, w, k, sums);
    case 2: return tile<T, 2, kPrefetch>(x, w, k, sums);
    case 3: return tile<T, 3, kPrefetch>(x, w, k, sums);
    default: return tile<T, 4, kPrefetch>(x, w, k, sums);
  }
}

// Columns [first, last) of rows * matrix^T into out (num_rows, stride); both multiples of 4.
template <class T>
void multiply(const Matrix& matrix, const Rows& rows, int first, int last, float* out, int64_t stride,
              Into into) {
  constexpr bool kIsInt8 = std::is_same_v<T, Int8>;
  const int64_t k = matrix.num_columns;
  const auto* x = static_cast<const typename T::X*>(rows.values);
  const auto* w = static_cast<const typename T::W*>(matrix.weight);
  const int num_rows = rows.num_rows;
  const int64_t rest = static_cast<int64_t>(num_rows) * k;
  // As many rows as stay in the second-level cache while the matrix passes by.
  const int chunk = std::max<int64_t>(4, (320 << 10) / (k * sizeof(typename T::X)) / 4 * 4);
  for (int begin = 0; begin < num_rows; begin += chunk) {
    const int end = std::min(num_rows, begin + chunk);
    for (int n = first; n < last; n += 4) {
      __m128 scale = _mm_set1_ps(1);
      __m128i shift = _mm_setzero_si128();
      if constexpr (kIsInt8) {
        scale = _mm_loadu_ps(matrix.scales + n);
        shift = _mm_slli_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(&matrix.code_sums[n])), 7);
      }
      const __m128 bias = matrix.bias ? _mm_loadu_ps(matrix.bias + n) : _mm_setzero_ps();
      for (int m = begin; m < end; m += 4) {
        const int mr = std::min(4, end - m);
        __m128 sums[4], more[4];
        if (m == begin)
          tile_of<T, true>(mr, x + m * k, w + n * k, k, sums);
        else
          tile_of<T, false>(mr, x + m * k, w + n * k, k, sums);
        if (kIsInt8 && matrix.is_precise) tile_of<T, false>(mr, x + rest + m * k, w + n * k, k, more);
        for (int i = 0; i < mr; ++i) {
          __m128 y = sums[i];
          if constexpr (kIsInt8) {
            auto exact = [&](__m128 s) { return _mm_cvtepi32_ps(_mm_sub_epi32(_mm_castps_si128(s), shift)); };
            y = exact(y);
            if (matrix.is_precise) y = _mm_add_ps(y, _mm_mul_ps(exact(more[i]), _mm_set1_ps(1.0f / 254)));
            y = _mm_mul_ps(_mm_mul_ps(y, scale), _mm_set1_ps(rows.scales[m + i]));
          }
          y = _mm_add_ps(y, bias);
          float* to = out + (m + i) * stride + n;
          if (into == Into::kAdd) y = _mm_add_ps(y, _mm_loadu_ps(to));
          _mm_storeu_ps(to, y);
        }
      }
    }
  }
}

inline void multiply(const Matrix& matrix, const Rows& rows, int first, int last, float* out, int64_t stride,
                     Into into) {
  switch (matrix.precision) {
    case Precision::kF32: return multiply<F32>(matrix, rows, first, last, out, stride, into);
    case Precision::kBf16: return multiply<Bf16>(matrix, rows, first, last, out, stride, into);
    case Precision::kInt8: return multiply<Int8>(matrix, rows, first, last, out, stride, into);
  }
}

}  // namespace tokenmill
