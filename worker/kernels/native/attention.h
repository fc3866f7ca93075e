// Attention over the paged pool, for all heads that share K and V at once.
//
// A block holds K and V of each head in panels of 32 tokens, laid out like a weight matrix: scores are
// a product of queries with a panel of keys, and answers one of weights with a panel of values. Panels
// lie at fixed positions of the sequence and are taken in order, with a running maximum and sum in
// float32: so a token's bits depend on its own sequence alone, not on the step that computes it.
#pragma once

#include <limits>

#include "dot.h"

namespace tokenmill {

constexpr int kMaxHeadDim = 256;

struct PoolShape {
  int num_kv_heads, head_dim;  // head_dim: a multiple of 32
  int num_blocks, block_size;  // block_size: a multiple of 32
};

// One layer's K or V: (num_blocks, num_kv_heads, block_size / 32, panel).
template <class T>
struct Panels {
  using X = typename T::X;
  PoolShape shape;
  char* at;

  int64_t panel_bytes() const { return static_cast<int64_t>(kPanel) * shape.head_dim * sizeof(X); }

  char* panel(int64_t block, int offset, int kv_head) const {
    const int per_block = shape.block_size / kPanel;
    return at + ((block * shape.num_kv_heads + kv_head) * per_block + offset / kPanel) * panel_bytes();
  }

  // A key's values are the steps of a column.
  void put_key(int64_t slot, int kv_head, const float* key) const {
    const int offset = slot % shape.block_size;
    char* to = panel(slot / shape.block_size, offset, kv_head) + offset % kPanel * 4;
    for (int d = 0; d < shape.head_dim; d += T::kPerStep, to += kStepBytes)
      for (int i = 0; i < T::kPerStep; ++i) reinterpret_cast<X*>(to)[i] = T::from(key[d + i]);
  }

  // A value's values are columns; steps run over tokens.
  void put_value(int64_t slot, int kv_head, const float* value) const {
    const int offset = slot % shape.block_size, token = offset % kPanel;
    char* to = panel(slot / shape.block_size, offset, kv_head) + token / T::kPerStep * kStepBytes;
    constexpr int64_t kColumns = kPanel / T::kPerStep * kStepBytes;
    for (int d = 0; d < shape.head_dim; ++d)
      reinterpret_cast<X*>(to + d / kPanel * kColumns + d % kPanel * 4)[token % T::kPerStep] = T::from(value[d]);
  }
};

struct Scoring {
  float scale;
  int window;     // tokens that a token sees, itself included; 0: all
  float softcap;  // scores are squeezed into (-softcap, softcap); 0: not
};

// Up to 12 heads of neighbouring tokens of one sequence that share K and V.
template <class T>
struct Heads {
  const typename T::X* queries;  // (count, head_dim)
  int count, kv_head;
  int positions[kMaxTile];
  float* outs[kMaxTile];         // (head_dim,) each
  const int64_t* block_ids;
};

// Weights of one panel's keys; brings the running maximum and sum up to date. Returns by what earlier
// answers are to be multiplied.
template <class T>
inline float weigh(const typename T::Sums* sums, const Scoring& scoring, int begin, int position, float& peak,
                   float& total, typename T::X* weights) {
  constexpr float kHidden = -std::numeric_limits<float>::infinity();
  const int low = scoring.window ? position - scoring.window + 1 - begin : 0, high = position - begin;
  Floats scores[2];
  for (int half = 0; half < 2; ++half) {
    scores[half] = sums[half] * all(scoring.scale);
    if (scoring.softcap != 0) scores[half] = tanh(scores[half] / all(scoring.softcap)) * all(scoring.softcap);
    scores[half] = keep(scores[half], low - half * kFloats, high - half * kFloats, kHidden);
  }
  const float now = std::max(peak, largest(larger(scores[0], scores[1])));
  if (now == kHidden) {
    for (int half = 0; half < 2; ++half) store(weights + half * kFloats, zeros());
    return 1;
  }
  for (auto& half : scores) half = exp(half - all(now));
  for (int half = 0; half < 2; ++half) store(weights + half * kFloats, scores[half]);
  const float factor = now > peak ? _mm512_cvtss_f32(exp(all(peak - now))) : 1;
  total = total * factor + sum(scores[0] + scores[1]);
  peak = now;
  return factor;
}

// outs = softmax(queries . keys * scale) values.
template <class T>
void attend(const Heads<T>& heads, const Panels<T>& keys, const Panels<T>& values, const Scoring& scoring) {
  using X = typename T::X;
  const int head_dim = keys.shape.head_dim, block_size = keys.shape.block_size, count = heads.count;
  const int first = scoring.window ? std::max(0, heads.positions[0] - scoring.window + 1) : 0;
  const int last = heads.positions[count - 1];
  constexpr int64_t kColumns = kPanel / T::kPerStep * kStepBytes;
  alignas(64) float answers[kMaxTile][kMaxHeadDim];
  alignas(64) X weights[kMaxTile][kPanel];
  float peak[kMaxTile], total[kMaxTile], factor[kMaxTile];
  typename T::Sums sums[kMaxTile][2];
  for (int m = 0; m < count; ++m) {
    peak[m] = -std::numeric_limits<float>::infinity();
    total[m] = 0;
    for (int d = 0; d < head_dim; d += kFloats) store(answers[m] + d, zeros());
  }
  auto panel_of = [&](const Panels<T>& panels, int position) {
    return panels.panel(heads.block_ids[position / block_size], position % block_size, heads.kv_head);
  };
  const char* key_panel = panel_of(keys, first / kPanel * kPanel);
  for (int begin = first / kPanel * kPanel; begin <= last; begin += kPanel) {
    const char* value_panel = panel_of(values, begin);
    tile_of<T, false, 2>(count, reinterpret_cast<const char*>(heads.queries), head_dim * sizeof(X), key_panel,
                         head_dim / T::kPerStep, {value_panel, kStepBytes}, sums);
    for (int m = 0; m < count; ++m)
      factor[m] = weigh<T>(sums[m], scoring, begin, heads.positions[m], peak[m], total[m], weights[m]);
    if (begin + kPanel <= last) key_panel = panel_of(keys, begin + kPanel);
    // Not past the last token: what an earlier owner left in the block must not reach us, even as NaN.
    const int seen = std::min(kPanel, last - begin + 1), whole = seen / T::kPerStep;
    for (int d = 0; d < head_dim; d += kPanel) {
      const char* w = value_panel + d / kPanel * kColumns;
      const char* x = reinterpret_cast<const char*>(weights);
      tile_of<T, false, 2>(count, x, sizeof(weights[0]), w, whole, {key_panel + d / kPanel * kColumns, kStepBytes}, sums);
      if (seen % T::kPerStep) {
        alignas(64) X step[kStepBytes / sizeof(X)];
        std::memcpy(step, w + whole * kStepBytes, kStepBytes);
        for (int i = 0; i < static_cast<int>(kStepBytes / sizeof(X)); ++i)
          if (i % T::kPerStep >= seen % T::kPerStep) step[i] = 0;
        tile_of<T, true, 0>(count, x + whole * 4, sizeof(weights[0]), reinterpret_cast<const char*>(step), 1, {}, sums);
      }
      for (int m = 0; m < count; ++m)
        for (int half = 0; half < 2; ++half) {
          float* to = answers[m] + d + half * kFloats;
          store(to, fma(load(to), all(factor[m]), sums[m][half]));
        }
    }
  }
  for (int m = 0; m < count; ++m)
    for (int d = 0; d < head_dim; d += kFloats)
      store(heads.outs[m] + d, load(answers[m] + d) * all(1.0f / total[m]));
}

}  // namespace tokenmill
