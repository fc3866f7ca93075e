// Attention of one token over the paged pool.
//
// Keys are taken 16 at a time at fixed positions of the sequence, with a running maximum and sum in
// float32. So a token's bits depend on its own sequence alone, not on the step that computes it.
#pragma once

#include <limits>

#include "row_ops.h"

namespace tokenmill {

template <class E>
struct KvElement;

template <>
struct KvElement<float> {
  using T = F32;
  static float from(float v) { return v; }
  static __m512 load16(const float* p) { return _mm512_loadu_ps(p); }
};

template <>
struct KvElement<bf16> {
  using T = Bf16;
  static bf16 from(float v) { return to_bf16(v); }
  static __m512 load16(const bf16* p) {
    const __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(raw), 16));
  }
};

// One layer's K and V, and the block table of a sequence.
template <class E>
struct PagedKv {
  const E* keys;    // (num_blocks, block_size, num_kv_heads, head_dim)
  const E* values;  // like keys
  const int64_t* block_ids;
  int block_size;   // a multiple of 16
  int64_t token_stride;  // num_kv_heads * head_dim

  int64_t offset(int position) const {
    return (block_ids[position / block_size] * block_size + position % block_size) * token_stride;
  }
};

constexpr int kMaxHeadVectors = 16;  // head_dim <= 256

// out = softmax(query . keys * scale) values, over positions [first, last]. head_dim is a multiple
// of 32; query and out are one head's.
template <class E>
void attend(const E* query, const PagedKv<E>& kv, int kv_head, int head_dim, int first, int last, float scale,
            float* out) {
  using T = typename KvElement<E>::T;
  const int num_vectors = head_dim / 16;
  const int64_t head_offset = static_cast<int64_t>(kv_head) * head_dim;
  __m512 weighted[kMaxHeadVectors];
  for (int v = 0; v < num_vectors; ++v) weighted[v] = _mm512_setzero_ps();
  float largest = -std::numeric_limits<float>::infinity(), total = 0;
  for (int begin = first / 16 * 16; begin <= last; begin += 16) {
    const int64_t offset = kv.offset(begin) + head_offset;
    const int low = std::max(first - begin, 0), high = std::min(last - begin, 15);
    const auto seen = static_cast<__mmask16>((0xffffu << low) & (0xffffu >> (15 - high)));
    __m512 scores = _mm512_setzero_ps();
    for (int quad = low / 4; quad <= high / 4; ++quad) {
      const E* key = kv.keys + offset + quad * 4 * kv.token_stride;
      typename T::Acc acc[4] = {T::zero(), T::zero(), T::zero(), T::zero()};
      for (int i = 0; i < head_dim; i += T::kLanes) {
        const auto q = T::load_x(query + i);
        for (int n = 0; n < 4; ++n) acc[n] = T::dot(acc[n], q, T::load_w(key + n * kv.token_stride + i));
      }
      const __m128 four = sum4(acc[0], acc[1], acc[2], acc[3]);
      scores = _mm512_mask_broadcast_f32x4(scores, static_cast<__mmask16>(0xf << (4 * quad)), four);
    }
    scores = _mm512_mask_mul_ps(_mm512_set1_ps(-std::numeric_limits<float>::infinity()), seen, scores,
                                _mm512_set1_ps(scale));
    const float now = std::max(largest, _mm512_mask_reduce_max_ps(seen, scores));
    const __m512 weights = _mm512_maskz_mov_ps(seen, exp16(_mm512_sub_ps(scores, _mm512_set1_ps(now))));
    if (now > largest) {
      const __m512 factor = exp16(_mm512_set1_ps(largest - now));
      for (int v = 0; v < num_vectors; ++v) weighted[v] = _mm512_mul_ps(weighted[v], factor);
      total *= _mm512_cvtss_f32(factor);
      largest = now;
    }
    total += _mm512_reduce_add_ps(weights);
    alignas(64) float weight[16];
    _mm512_store_ps(weight, weights);
    const E* value = kv.values + offset;
    // Not past `high`: what an earlier owner left in the block must not reach us, even as NaN.
    for (int j = low; j <= high; ++j) {
      const __m512 w = _mm512_set1_ps(weight[j]);
      for (int v = 0; v < num_vectors; ++v)
        weighted[v] = _mm512_fmadd_ps(w, KvElement<E>::load16(value + j * kv.token_stride + v * 16), weighted[v]);
    }
  }
  const __m512 norm = _mm512_set1_ps(1.0f / total);
  for (int v = 0; v < num_vectors; ++v) _mm512_storeu_ps(out + v * 16, _mm512_mul_ps(weighted[v], norm));
}

}  // namespace tokenmill
