// AVX2 with FMA, in the words that the kernels are written in (see vectors.h): registers of eight lanes.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace tokenmill {

using bf16 = uint16_t;

constexpr int kLanes = 8;
constexpr int kFloatSums = 12;  // registers left for sums where floats are multiplied
constexpr int kPackedSums = 8;  // and where several values to a lane are, which have to be unpacked
constexpr int kCodeBias = 0;  // of weights: they are signed

using FloatLanes = __m256;
using IntLanes = __m256i;

inline FloatLanes no_floats() { return _mm256_setzero_ps(); }
inline IntLanes no_ints() { return _mm256_setzero_si256(); }
inline FloatLanes lanes(const float* from) { return _mm256_loadu_ps(from); }
inline IntLanes lanes(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
inline IntLanes lanes(const int32_t* from) { return lanes(static_cast<const void*>(from)); }
inline void store_lanes(float* to, FloatLanes v) { _mm256_storeu_ps(to, v); }
inline void store_lanes(void* to, IntLanes v) { _mm256_storeu_si256(static_cast<__m256i*>(to), v); }
inline IntLanes copies(int32_t v) { return _mm256_set1_epi32(v); }
// A byte a lane, in all four of it.
inline IntLanes copies_of_bytes(const void* from) {
  return _mm256_mullo_epi32(_mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(from))),
                            copies(0x01010101));
}

// sums + x times w, lane by lane: of a float, of two bf16, of four codes.
inline FloatLanes dot_float(FloatLanes sums, IntLanes x, IntLanes w) {
  return _mm256_fmadd_ps(_mm256_castsi256_ps(x), _mm256_castsi256_ps(w), sums);
}
// A bfloat16 is the upper half of a float.
inline FloatLanes dot_bf16(FloatLanes sums, IntLanes x, IntLanes w) {
  const IntLanes upper = copies(static_cast<int32_t>(0xffff0000));
  sums = dot_float(sums, _mm256_slli_epi32(x, 16), _mm256_slli_epi32(w, 16));
  return dot_float(sums, _mm256_and_si256(x, upper), _mm256_and_si256(w, upper));
}
// Exact: neither factor is -128, so two products of magnitudes up to 127 fit into 16 bits.
inline IntLanes dot_codes(IntLanes sums, IntLanes x, IntLanes w) {
  const IntLanes twos = _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(w, x));
  return _mm256_add_epi32(sums, _mm256_madd_epi16(twos, _mm256_set1_epi16(1)));
}

inline IntLanes bits_and(IntLanes a, IntLanes b) { return _mm256_and_si256(a, b); }
inline IntLanes shifted_by_4(IntLanes v) { return _mm256_srli_epi16(v, 4); }
inline IntLanes times_16bit(IntLanes a, IntLanes b) { return _mm256_mullo_epi16(a, b); }
inline IntLanes add_bytes(IntLanes a, IntLanes b) { return _mm256_adds_epu8(a, b); }  // up to 255
inline IntLanes larger_bytes(IntLanes a, IntLanes b) { return _mm256_max_epu8(a, b); }
// Bytes from 1 to 255 as weights.
inline IntLanes weights_of(IntLanes codes) { return _mm256_xor_si256(codes, _mm256_set1_epi8(-128)); }

constexpr int kFloats = 16;
struct Floats {
  __m256 low, high;
};

inline Floats operator+(Floats a, Floats b) { return {a.low + b.low, a.high + b.high}; }
inline Floats operator-(Floats a, Floats b) { return {a.low - b.low, a.high - b.high}; }
inline Floats operator*(Floats a, Floats b) { return {a.low * b.low, a.high * b.high}; }

inline Floats all(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
inline Floats zeros() { return all(0); }
inline Floats load(const float* from) { return {lanes(from), lanes(from + kLanes)}; }
inline Floats load(const int8_t* from) {
  auto half = [&](int at) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + at))));
  };
  return {half(0), half(kLanes)};
}
inline Floats load_less(const int32_t* from, int32_t less) {
  auto half = [&](int at) { return _mm256_cvtepi32_ps(_mm256_sub_epi32(lanes(from + at), copies(less))); };
  return {half(0), half(kLanes)};
}
inline void store(float* to, Floats v) {
  store_lanes(to, v.low);
  store_lanes(to + kLanes, v.high);
}
// Lanes from `from` on, as numbers.
inline IntLanes numbers(int from) {
  return _mm256_add_epi32(copies(from), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
// Only the first count lanes; the memory behind them may be another's.
inline void store_some(float* to, Floats v, int count) {
  _mm256_maskstore_ps(to, _mm256_cmpgt_epi32(copies(count), numbers(0)), v.low);
  _mm256_maskstore_ps(to + kLanes, _mm256_cmpgt_epi32(copies(count), numbers(kLanes)), v.high);
}
inline void store(bf16* to, Floats v) {
  auto upper = [](__m256 half) {
    const IntLanes bits = _mm256_castps_si256(half), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), copies(1));
    const IntLanes up = _mm256_add_epi32(_mm256_add_epi32(bits, copies(0x7fff)), odd);  // to nearest even
    const __m256 is_none = _mm256_cmp_ps(half, half, _CMP_UNORD_Q);
    const __m256 none = _mm256_castsi256_ps(copies(0x7fc00000));
    return _mm256_srli_epi32(_mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(up), none, is_none)), 16);
  };
  const IntLanes mixed = _mm256_packus_epi32(upper(v.low), upper(v.high));
  store_lanes(to, _mm256_permute4x64_epi64(mixed, 0xd8));
}
// Whole numbers within int8.
inline void store(int8_t* to, Floats v) {
  const IntLanes mixed = _mm256_packs_epi32(_mm256_cvtps_epi32(v.low), _mm256_cvtps_epi32(v.high));
  const IntLanes words = _mm256_permute4x64_epi64(mixed, 0xd8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                   _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}

inline Floats fma(Floats a, Floats b, Floats c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
// The second where either is no number.
inline Floats larger(Floats a, Floats b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
inline Floats smaller(Floats a, Floats b) { return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)}; }
inline Floats magnitude(Floats v) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, v.low), _mm256_andnot_ps(sign, v.high)};
}
inline Floats rounded(Floats v) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(v.low, kNearest), _mm256_round_ps(v.high, kNearest)};
}
inline bool any_above(Floats a, Floats b) {
  return _mm256_movemask_ps(_mm256_or_ps(_mm256_cmp_ps(a.low, b.low, _CMP_GT_OQ),
                                         _mm256_cmp_ps(a.high, b.high, _CMP_GT_OQ))) != 0;
}
inline float first_of(Floats v) { return _mm256_cvtss_f32(v.low); }
template <class Join>
inline float joined(__m256 v, const Join& join) {
  const __m128 four = join(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = join(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(join(two, _mm_movehdup_ps(two)));
}
inline float sum(Floats v) {
  return joined(v.low + v.high, [](__m128 a, __m128 b) { return a + b; });
}
inline float largest(Floats v) {
  return joined(_mm256_max_ps(v.low, v.high), [](__m128 a, __m128 b) { return _mm_max_ps(a, b); });
}
// Lanes [low, high] of v; instead in the others. Either end may lie outside.
inline Floats keep(Floats v, int low, int high, float instead) {
  if (low <= 0 && high >= kFloats - 1) return v;
  auto half = [&](__m256 values, int from) {
    const IntLanes at = numbers(from);
    const IntLanes out = _mm256_or_si256(_mm256_cmpgt_epi32(copies(low), at), _mm256_cmpgt_epi32(at, copies(high)));
    return _mm256_blendv_ps(values, _mm256_set1_ps(instead), _mm256_castsi256_ps(out));
  };
  return {half(v.low, 0), half(v.high, kLanes)};
}
// v * 2^n, for whole n from -150 to 127; 0 where n is below -126.
inline Floats scaled(Floats v, Floats n) {
  auto half = [](__m256 values, __m256 powers) {
    const IntLanes exponent = _mm256_add_epi32(_mm256_cvtps_epi32(powers), copies(127));
    return values * _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_max_epi32(exponent, no_ints()), 23));
  };
  return {half(v.low, n.low), half(v.high, n.high)};
}

// Not from the CPU's guess, which differs between vendors.
inline Floats inverse(Floats x) { return {_mm256_set1_ps(1) / x.low, _mm256_set1_ps(1) / x.high}; }

}  // namespace tokenmill
