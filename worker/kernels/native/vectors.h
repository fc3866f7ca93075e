// Sixteen floats at a time, and what the kernels do with them.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

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

constexpr int kFloats = 16;
using Floats = __m512;

inline Floats zeros() { return _mm512_setzero_ps(); }
inline Floats all(float value) { return _mm512_set1_ps(value); }
inline Floats load(const float* from) { return _mm512_loadu_ps(from); }
inline Floats load(const int8_t* from) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
}
inline void store(float* to, Floats v) { _mm512_storeu_ps(to, v); }
// Only the first count lanes; the memory behind them may be another's.
inline void store_some(float* to, Floats v, int count) {
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>(count >= kFloats ? 0xffff : (1 << count) - 1), v);
}
inline void store(bf16* to, Floats v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(v));
}
// Whole numbers within int8.
inline void store(int8_t* to, Floats v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v)));
}

inline Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Floats smaller(Floats a, Floats b) { return _mm512_min_ps(a, b); }
inline Floats magnitude(Floats v) { return _mm512_abs_ps(v); }
inline Floats rounded(Floats v) { return _mm512_roundscale_ps(v, 0); }
inline bool any_above(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) != 0; }
inline float first_of(Floats v) { return _mm512_cvtss_f32(v); }
inline float sum(Floats v) { return _mm512_reduce_add_ps(v); }
inline float largest(Floats v) { return _mm512_reduce_max_ps(v); }
// Lanes [low, high] of v; instead in the others. Either end may lie outside.
inline Floats keep(Floats v, int low, int high, float instead) {
  if (low <= 0 && high >= kFloats - 1) return v;
  if (low >= kFloats || high < 0) return all(instead);
  const int from = low < 0 ? 0 : low, to = high >= kFloats ? kFloats - 1 : high;
  const auto mask = static_cast<__mmask16>((0xffffu << from) & (0xffffu >> (kFloats - 1 - to)));
  return _mm512_mask_mov_ps(all(instead), mask, v);
}

// 2^x, relative error below 2e-7 for x in [-126, 127]; 0 below. Polynomial of degree 6 on the fraction.
inline Floats exp2(Floats x) {
  x = larger(all(-150.0f), x);  // in this order a NaN stays one
  const Floats n = rounded(x), r = x - n;
  Floats p = all(1.535336188e-4f);
  for (float c : {1.339887440e-3f, 9.618437357e-3f, 5.550332471e-2f, 2.402264791e-1f, 6.931472028e-1f, 1.0f})
    p = fma(p, r, all(c));
  return _mm512_scalef_ps(p, n);
}

constexpr float kLog2E = 1.44269504f;

// e^x up to e^80, so that `inverse` has something to invert.
inline Floats exp(Floats x) { return exp2(smaller(all(80.0f), x) * all(kLog2E)); }

// 1 / x, to 23 bits.
inline Floats inverse(Floats x) {
  const Floats guess = _mm512_rcp14_ps(x);
  return guess * _mm512_fnmadd_ps(x, guess, all(2.0f));
}

inline Floats tanh(Floats x) { return all(1.0f) - all(2.0f) * inverse(exp(x + x) + all(1.0f)); }

}  // namespace tokenmill
