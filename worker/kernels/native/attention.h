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

// One layer's K or V: (num_blocks, num_kv_heads, block_size / 32, panel). With scales, values are int8
// in the same order, and each token and head has a scale: (num_blocks, num_kv_heads, block_size).
template <class T>
struct Panels {
  using X = typename T::X;
  PoolShape shape;
  char* at;
  float* scales;

  int64_t panel_values() const { return static_cast<int64_t>(kPanel) * shape.head_dim; }
  int64_t panel_bytes() const { return panel_values() * (scales ? 1 : sizeof(X)); }

  char* panel(int64_t block, int offset, int kv_head) const {
    const int per_block = shape.block_size / kPanel;
    return at + ((block * shape.num_kv_heads + kv_head) * per_block + offset / kPanel) * panel_bytes();
  }

  float* scale(int64_t block, int offset, int kv_head) const {
    return scales + (block * shape.num_kv_heads + kv_head) * shape.block_size + offset;
  }

  // The panel's values as they are multiplied; int8 ones are exact in bfloat16.
  const char* ready(const char* panel, X* scratch) const {
    if (!scales) return panel;
    for (int64_t i = 0; i < panel_values(); i += kFloats)
      store(scratch + i, load(reinterpret_cast<const int8_t*>(panel) + i));
    return reinterpret_cast<const char*>(scratch);
  }

  // A key's values are the steps of a column.
  void put_key(int64_t slot, int kv_head, const float* key) const {
    put(slot, kv_head, key, [this](auto* to, int token, const auto* values) {
      for (int d = 0; d < shape.head_dim; ++d)
        to[(d / T::kPerStep * kPanel + token) * T::kPerStep + d % T::kPerStep] = values[d];
    });
  }

  // A value's values are columns; steps run over tokens.
  void put_value(int64_t slot, int kv_head, const float* value) const {
    put(slot, kv_head, value, [this](auto* to, int token, const auto* values) {
      to += token / T::kPerStep * kPanel * T::kPerStep + token % T::kPerStep;
      for (int d = 0; d < shape.head_dim; d += kPanel, to += kPanel * kPanel)
        for (int i = 0; i < kPanel; ++i) to[i * T::kPerStep] = values[d + i];
    });
  }

  // Asks for the lines that a key or value of the slot goes to.
  void want_key(int64_t slot, int kv_head) const {
    const char* at = place_of(slot, kv_head) + slot % kPanel * value_bytes() * T::kPerStep;
    for (int d = 0; d < shape.head_dim; d += T::kPerStep, at += kPanel * T::kPerStep * value_bytes()) prefetchw(at);
  }

  void want_value(int64_t slot, int kv_head) const {
    const int64_t step_bytes = kPanel * T::kPerStep * value_bytes();
    const char* at = place_of(slot, kv_head) + slot % kPanel / T::kPerStep * step_bytes;
    for (int d = 0; d < shape.head_dim; d += kPanel, at += kPanel * kPanel * value_bytes())
      for (int64_t line = 0; line < step_bytes; line += 64) prefetchw(at + line);
  }

 private:
  static void prefetchw(const char* at) { __builtin_prefetch(at, 1); }
  int64_t value_bytes() const { return scales ? 1 : sizeof(X); }
  char* place_of(int64_t slot, int kv_head) const {
    return panel(slot / shape.block_size, static_cast<int>(slot % shape.block_size), kv_head);
  }

  template <class Spread>
  void put(int64_t slot, int kv_head, const float* head, const Spread& spread) const {
    const int64_t block = slot / shape.block_size;
    const int offset = slot % shape.block_size, dim = shape.head_dim;
    char* to = panel(block, offset, kv_head);
    if (!scales) {
      X values[kMaxHeadDim];
      for (int d = 0; d < dim; d += kFloats) store(values + d, load(head + d));
      return spread(reinterpret_cast<X*>(to), offset % kPanel, values);
    }
    int8_t codes[kMaxHeadDim];
    Floats peak = zeros();
    for (int d = 0; d < dim; d += kFloats) peak = larger(peak, magnitude(load(head + d)));
    const float step = std::max(largest(peak) / 127.0f, 1e-30f);
    *scale(block, offset, kv_head) = step;
    for (int d = 0; d < dim; d += kFloats) store(codes + d, rounded(load(head + d) * all(1.0f / step)));
    spread(reinterpret_cast<int8_t*>(to), offset % kPanel, codes);
  }
};

struct Scoring {
  float scale;
  int window;     // tokens that a token sees, itself included; 0: all
  float softcap;  // scores are squeezed into (-softcap, softcap); 0: not
};

// Heads of neighbouring tokens of one sequence, up to 12 in all: `count` that share K and V, for each of
// num_kv_heads K/V heads from kv_head on. These lie side by side in a block and are walked together.
template <class T>
struct Heads {
  const typename T::X* queries[kMaxTile];  // one a K/V head: (count, head_dim)
  int count, kv_head, num_kv_heads;
  int positions[kMaxTile];                 // of the count heads
  float* outs[kMaxTile];                   // K/V head by K/V head: (head_dim,) each
  const int64_t* block_ids;

  // First token whose panel is read.
  int begin(const Scoring& scoring) const {
    return scoring.window ? std::max(0, positions[0] - scoring.window + 1) / kPanel * kPanel : 0;
  }
};

// By how many powers of 2 a score may exceed the peak before what was summed so far is scaled down to it.
// Weights of up to 2^8 are as exact as those of up to 1, and after a first panel few scores are higher.
constexpr float kSlack = 8;

// A query's running softmax: a score near the largest so far in all lanes, and the sum of weights by lane.
struct Running {
  Floats peak, total;
};

// Weights of one panel's keys. Returns by what earlier answers are to be multiplied.
template <class T>
inline float weigh(const float* sums, const Scoring& scoring, int begin, int position,
                   const float* key_scales, const float* value_scales, Running& running, typename T::X* weights) {
  constexpr float kHidden = -std::numeric_limits<float>::infinity();
  const int low = scoring.window ? position - scoring.window + 1 - begin : 0, high = position - begin;
  Floats scores[2];
  for (int half = 0; half < 2; ++half) {
    Floats score = load(sums + half * kFloats);
    if (key_scales) score = score * load(key_scales + half * kFloats);
    // In powers of 2, which are cheaper than those of e.
    if (scoring.softcap == 0)
      score = score * all(scoring.scale * kLog2E);
    else
      score = tanh(score * all(scoring.scale / scoring.softcap)) * all(scoring.softcap * kLog2E);
    scores[half] = keep(score, low - half * kFloats, high - half * kFloats, kHidden);
  }
  float factor = 1;
  const Floats highest = larger(scores[0], scores[1]);
  const bool is_first = first_of(running.peak) == kHidden;
  if (any_above(highest, running.peak + all(kSlack))) {
    const Floats now = all(largest(highest));
    if (!is_first) {
      const Floats shrink = exp2(running.peak - now);
      factor = first_of(shrink);
      running.total = running.total * shrink;
    }
    running.peak = now;
  } else if (is_first) {
    for (int half = 0; half < 2; ++half) store(weights + half * kFloats, zeros());
    return 1;
  }
  for (auto& score : scores) score = exp2(score - running.peak);
  running.total = running.total + (scores[0] + scores[1]);
  for (int half = 0; half < 2; ++half) {
    Floats weight = scores[half];
    // Scales behind the last token are what an earlier owner left: masked again.
    if (value_scales)
      weight = keep(weight * load(value_scales + half * kFloats), low - half * kFloats, high - half * kFloats, 0);
    store(weights + half * kFloats, weight);
  }
  return factor;
}

// Where the panels lie that are wanted soon: those of one task, then those of the next.
template <class T>
class PanelsAhead {
 public:
  PanelsAhead(const Heads<T>& heads, const Heads<T>* next, const Panels<T>& keys, const Panels<T>& values,
              const Scoring& scoring)
      : heads_(&heads), next_(next), keys_(keys), values_(values), scoring_(scoring), begin_(heads.begin(scoring)) {
    for (int i = 0; i < kDistance; ++i) advance();
  }

  void advance() {
    if (++kv_ < heads_->num_kv_heads) return;
    kv_ = 0;
    begin_ += kPanel;
    if (begin_ <= heads_->positions[heads_->count - 1]) return;
    if (next_) {
      heads_ = next_;
      next_ = nullptr;
      begin_ = heads_->begin(scoring_);
    } else {
      begin_ -= kPanel;
    }
  }

  const char* key() const { return at(keys_); }
  const char* value() const { return at(values_); }

 private:
  static constexpr int kDistance = 1;

  const char* at(const Panels<T>& panels) const {
    const int size = panels.shape.block_size;
    return panels.panel(heads_->block_ids[begin_ / size], begin_ % size, heads_->kv_head + kv_);
  }

  const Heads<T>*heads_, *next_;
  const Panels<T>&keys_, &values_;
  const Scoring& scoring_;
  int begin_, kv_ = 0;
};

// outs = softmax(queries . keys * scale) values. Memory is asked for what next wants, if there is one.
template <class T>
void attend(const Heads<T>& heads, const Heads<T>* next, const Panels<T>& keys, const Panels<T>& values,
            const Scoring& scoring) {
  using X = typename T::X;
  const int head_dim = keys.shape.head_dim, block_size = keys.shape.block_size, count = heads.count;
  const int last = heads.positions[count - 1], num_heads = count * heads.num_kv_heads;
  constexpr int64_t kColumns = kPanel / T::kPerStep * kStepBytes;
  alignas(64) X scratch[2][kPanel * kMaxHeadDim];
  alignas(64) X weights[kMaxTile][kPanel];
  alignas(64) float sums[kMaxTile][kPanel], answers[kMaxHeadDim / kPanel][kMaxTile][kPanel];
  Running running[kMaxTile];
  for (int m = 0; m < num_heads; ++m) {
    running[m] = {all(-std::numeric_limits<float>::infinity()), zeros()};
    for (int d = 0; d < head_dim; d += kFloats) store(answers[d / kPanel][m] + d % kPanel, zeros());
  }
  const char* x = reinterpret_cast<const char*>(weights);
  PanelsAhead<T> ahead(heads, next, keys, values, scoring);
  for (int begin = heads.begin(scoring); begin <= last; begin += kPanel) {
    const int64_t block = heads.block_ids[begin / block_size];
    const int offset = begin % block_size;
    // Not past the last token: what an earlier owner left in the block must not reach us, even as NaN.
    const int seen = std::min(kPanel, last - begin + 1), whole = seen / T::kPerStep;
    for (int kv = 0; kv < heads.num_kv_heads; ++kv, ahead.advance()) {
      const int kv_head = heads.kv_head + kv, first = kv * count;
      const char* w = keys.ready(keys.panel(block, offset, kv_head), scratch[0]);
      tile_of<T, false, 2>(count, reinterpret_cast<const char*>(heads.queries[kv]), head_dim * sizeof(X), w,
                           head_dim / T::kPerStep, {ahead.key(), kStepBytes}, sums);
      const float* key_scales = keys.scales ? keys.scale(block, offset, kv_head) : nullptr;
      const float* value_scales = values.scales ? values.scale(block, offset, kv_head) : nullptr;
      for (int m = 0; m < count; ++m) {
        const float factor = weigh<T>(sums[m], scoring, begin, heads.positions[m], key_scales, value_scales,
                                      running[first + m], weights[m]);
        if (factor != 1)
          for (int d = 0; d < head_dim; d += kFloats) {
            float* answer = answers[d / kPanel][first + m] + d % kPanel;
            store(answer, load(answer) * all(factor));
          }
      }
      w = values.ready(values.panel(block, offset, kv_head), scratch[1]);
      for (int d = 0; d < head_dim / kPanel; ++d, w += kColumns) {
        auto* sums_of = answers[d] + first;
        tile_of<T, true, 2>(count, x, sizeof(weights[0]), w, whole, {ahead.value() + d * kColumns, kStepBytes},
                            sums_of);
        if (seen % T::kPerStep) {
          alignas(64) X step[kStepBytes / sizeof(X)];
          std::memcpy(step, w + whole * kStepBytes, kStepBytes);
          for (int i = 0; i < static_cast<int>(kStepBytes / sizeof(X)); ++i)
            if (i % T::kPerStep >= seen % T::kPerStep) step[i] = 0;
          tile_of<T, true, 0>(count, x + whole * 4, sizeof(weights[0]), reinterpret_cast<const char*>(step), 1, {},
                              sums_of);
        }
      }
    }
  }
  for (int m = 0; m < num_heads; ++m) {
    const Floats norm = all(1.0f / sum(running[m].total));
    for (int d = 0; d < head_dim; d += kFloats)
      store(heads.outs[m] + d, load(answers[d / kPanel][m] + d % kPanel) * norm);
  }
}

}  // namespace tokenmill
