// Sixteen floats at a time, and what the kernels do with them: on the instructions that the build is for.
// Each build has bits of its own: sums across lanes, products of bfloat16 and inverses round differently.
#pragma once

#ifdef __AVX512F__
#include "avx512.h"
#else
#include "avx2.h"
#endif

namespace tokenmill {

inline float from_bf16(bf16 value) {
  const uint32_t bits = static_cast<uint32_t>(value) << 16;
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}

// 2^x, relative error below 2e-7 for x in [-126, 127]; 0 below. Polynomial of degree 6 on the fraction.
inline Floats exp2(Floats x) {
  x = larger(all(-150.0f), x);  // in this order a NaN stays one
  const Floats n = rounded(x), r = x - n;
  Floats p = all(1.535336188e-4f);
  for (float c : {1.339887440e-3f, 9.618437357e-3f, 5.550332471e-2f, 2.402264791e-1f, 6.931472028e-1f, 1.0f})
    p = fma(p, r, all(c));
  return scaled(p, n);
}

constexpr float kLog2E = 1.44269504f;

// e^x up to e^80, so that `inverse` has something to invert.
inline Floats exp(Floats x) { return exp2(smaller(all(80.0f), x) * all(kLog2E)); }

inline Floats tanh(Floats x) { return all(1.0f) - all(2.0f) * inverse(exp(x + x) + all(1.0f)); }

}  // namespace tokenmill
