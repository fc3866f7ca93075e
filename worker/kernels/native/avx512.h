// AVX-512 with VNNI and bfloat16, in the words that the kernels are written in (see vectors.h).
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace tokenmill {

using bf16 = uint16_t;

constexpr int kLanes = 16;
constexpr int kFloatSums = 24;  // registers left for sums where floats are multiplied
constexpr int kPackedSums = 24;  // and where several values to a lane are
constexpr int kCodeBias = 128;  // of weights: VNNI multiplies unsigned by signed

using FloatLanes = __m512;
using IntLanes = __m512i;

inline FloatLanes no_floats() { return _mm512_setzero_ps(); }
inline IntLanes no_ints() { return _mm512_setzero_si512(); }
inline FloatLanes lanes(const float* from) { return _mm512_loadu_ps(from); }
inline IntLanes lanes(const void* from) { return _mm512_loadu_si512(from); }
inline IntLanes lanes(const int32_t* from) { return _mm512_loadu_si512(from); }
inline void store_lanes(float* to, FloatLanes v) { _mm512_storeu_ps(to, v); }
inline void store_lanes(void* to, IntLanes v) { _mm512_storeu_si512(to, v); }
inline IntLanes copies(int32_t v) { return _mm512_set1_epi32(v); }
// A byte a lane, in all four of it.
inline IntLanes copies_of_bytes(const void* from) {
  return _mm512_mullo_epi32(_mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(from))),
                            copies(0x01010101));
}

// sums + x times w, lane by lane: of a float, of two bf16, of four codes.
inline FloatLanes dot_float(FloatLanes sums, IntLanes x, IntLanes w) {
  return _mm512_fmadd_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(w), sums);
}
inline FloatLanes dot_bf16(FloatLanes sums, IntLanes x, IntLanes w) {
  return _mm512_dpbf16_ps(sums, (__m512bh)x, (__m512bh)w);
}
inline IntLanes dot_codes(IntLanes sums, IntLanes x, IntLanes w) { return _mm512_dpbusd_epi32(sums, w, x); }

inline IntLanes bits_and(IntLanes a, IntLanes b) { return _mm512_and_si512(a, b); }
inline IntLanes shifted_by_4(IntLanes v) { return _mm512_srli_epi16(v, 4); }
inline IntLanes times_16bit(IntLanes a, IntLanes b) { return _mm512_mullo_epi16(a, b); }
inline IntLanes add_bytes(IntLanes a, IntLanes b) { return _mm512_adds_epu8(a, b); }  // up to 255
inline IntLanes larger_bytes(IntLanes a, IntLanes b) { return _mm512_max_epu8(a, b); }
// Bytes from 1 to 255 as weights.
inline IntLanes weights_of(IntLanes codes) { return codes; }

constexpr int kFloats = 16;
using Floats = __m512;

inline Floats zeros() { return _mm512_setzero_ps(); }
inline Floats all(float value) { return _mm512_set1_ps(value); }
inline Floats load(const float* from) { return _mm512_loadu_ps(from); }
inline Floats load(const int8_t* from) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
}
inline Floats load_less(const int32_t* from, int32_t less) {
  return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_loadu_si512(from), _mm512_set1_epi32(less)));
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
// The second where either is no number.
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
// v * 2^n, for whole n from -150 to 127.
inline Floats scaled(Floats v, Floats n) { return _mm512_scalef_ps(v, n); }

// 1 / x, to 23 bits.
inline Floats inverse(Floats x) {
  const Floats guess = _mm512_rcp14_ps(x);
  return guess * _mm512_fnmadd_ps(x, guess, all(2.0f));
}

}  // namespace tokenmill
