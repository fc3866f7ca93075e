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

// e^x, relative error below 1e-6 for x in [-87, 88]; below, 0. Polynomial of degree 5 on the
// fraction of x / ln 2.
inline Floats exp(Floats x) {
  const __mmask16 tiny = _mm512_cmp_ps_mask(x, all(-87.0f), _CMP_LT_OQ);
  x = smaller(larger(x, all(-87.0f)), all(88.0f));
  const Floats n = rounded(x * all(1.44269504f));
  Floats r = _mm512_fnmadd_ps(n, all(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, all(-2.12194440e-4f), r);
  Floats p = all(1.9875691500e-4f);
  for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    p = fma(p, r, all(c));
  p = fma(p, r * r, r) + all(1.0f);
  return _mm512_maskz_mov_ps(static_cast<__mmask16>(~tiny), _mm512_scalef_ps(p, n));
}

inline Floats tanh(Floats x) { return all(1.0f) - all(2.0f) / (exp(x + x) + all(1.0f)); }

}  // namespace tokenmill
