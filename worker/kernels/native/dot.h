// One step of many dot products: 4 bytes of a row, which are one float, two bf16 or four int8,
// times the same place of 16 columns.
#pragma once

#include "vectors.h"

namespace tokenmill {

struct F32 {
  using X = float;
  using Sums = __m512;
  static constexpr int kPerStep = 1;
  static X from(float value) { return value; }
  static float to_float(X value) { return value; }
  static Sums none() { return _mm512_setzero_ps(); }
  static Sums dot(Sums sums, __m512i x, __m512i w) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(w), sums);
  }
};

struct Bf16 {
  using X = bf16;
  using Sums = __m512;
  static constexpr int kPerStep = 2;
  static X from(float value) { return to_bf16(value); }
  static float to_float(X value) { return from_bf16(value); }
  static Sums none() { return _mm512_setzero_ps(); }
  static Sums dot(Sums sums, __m512i x, __m512i w) { return _mm512_dpbf16_ps(sums, (__m512bh)x, (__m512bh)w); }
};

// Weights are codes + 128: VNNI multiplies unsigned by signed.
struct Int8 {
  using X = int8_t;
  using Sums = __m512i;
  static constexpr int kPerStep = 4;
  static Sums none() { return _mm512_setzero_si512(); }
  static Sums dot(Sums sums, __m512i x, __m512i w) { return _mm512_dpbusd_epi32(sums, w, x); }
};

constexpr int kPanel = 32;           // columns that are computed together
constexpr int64_t kStepBytes = 128;  // of a panel
constexpr int kMaxTile = 12;         // rows whose sums fit into registers

// What to ask memory for while a tile is computed.
struct Ahead {
  const char* at;
  int64_t bytes_per_step;
};

// sums[m] = row m of x times a panel, over num_steps. Each sum is made in the order of the steps,
// whatever else is computed beside it: so a row's bits depend on nothing but the row.
template <class T, int MR, bool kContinues, int kAheadLines>
inline void tile(const char* x, int64_t x_stride, const char* w, int num_steps, Ahead ahead,
                 typename T::Sums (*sums)[2]) {
  typename T::Sums acc[MR][2];
#pragma GCC unroll 12
  for (int m = 0; m < MR; ++m) {
    acc[m][0] = kContinues ? sums[m][0] : T::none();
    acc[m][1] = kContinues ? sums[m][1] : T::none();
  }
  for (int s = 0; s < num_steps; ++s, x += 4, w += kStepBytes) {
    const __m512i w0 = _mm512_loadu_si512(w), w1 = _mm512_loadu_si512(w + 64);
    if (kAheadLines > 0) _mm_prefetch(ahead.at, _MM_HINT_T0);
    if (kAheadLines > 1) _mm_prefetch(ahead.at + 64, _MM_HINT_T0);
    if (kAheadLines > 0) ahead.at += ahead.bytes_per_step;
#pragma GCC unroll 12
    for (int m = 0; m < MR; ++m) {
      int32_t bytes;
      std::memcpy(&bytes, x + m * x_stride, 4);
      const __m512i v = _mm512_set1_epi32(bytes);
      acc[m][0] = T::dot(acc[m][0], v, w0);
      acc[m][1] = T::dot(acc[m][1], v, w1);
    }
  }
#pragma GCC unroll 12
  for (int m = 0; m < MR; ++m) {
    sums[m][0] = acc[m][0];
    sums[m][1] = acc[m][1];
  }
}

template <class T, bool kContinues, int kAheadLines>
inline void tile_of(int num_rows, const char* x, int64_t x_stride, const char* w, int num_steps, Ahead ahead,
                    typename T::Sums (*sums)[2]) {
  switch (num_rows) {
    case 1: return tile<T, 1, kContinues, kAheadLines>(x, x_stride, w, num_steps, ahead, sums);
    case 2: return tile<T, 2, kContinues, kAheadLines>(x, x_stride, w, num_steps, ahead, sums);
    case 3: return tile<T, 3, kContinues, kAheadLines>(x, x_stride, w, num_steps, ahead, sums);
    case 4: return tile<T, 4, kContinues, kAheadLines>(x, x_stride, w, num_steps, ahead, sums);
    case 5: return tile<T, 5, kContinues, kAheadLines>(x, x_stride, w, num_steps, ahead, sums);
    case 6: return tile<T, 6, kContinues, kAheadLines>(x, x_stride, w, num_steps, ahead, sums);
    case 7: return tile<T, 7, kContinues, kAheadLines>(x, x_stride, w, num_steps, ahead, sums);
    case 8: return tile<T, 8, kContinues, kAheadLines>(x, x_stride, w, num_steps, ahead, sums);
    case 9: return tile<T, 9, kContinues, kAheadLines>(x, x_stride, w, num_steps, ahead, sums);
    case 10: return tile<T, 10, kContinues, kAheadLines>(x, x_stride, w, num_steps, ahead, sums);
    case 11: return tile<T, 11, kContinues, kAheadLines>(x, x_stride, w, num_steps, ahead, sums);
    default: return tile<T, 12, kContinues, kAheadLines>(x, x_stride, w, num_steps, ahead, sums);
  }
}

}  // namespace tokenmill
