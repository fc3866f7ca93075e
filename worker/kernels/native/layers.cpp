#include "stack.h"

namespace tokenmill {

namespace {

inline Floats activate(Activation activation, Floats x) {
  if (activation == Activation::kSilu) return x * inverse(all(1.0f) + exp(zeros() - x));
  const Floats inner = all(0.7978845608f) * fma(x * x * x, all(0.044715f), x);
  return all(0.5f) * x * (all(1.0f) + tanh(inner));
}

inline void add_to(float* to, const float* from, int size) {
  for (int i = 0; i < size; i += kFloats) store(to + i, load(to + i) + load(from + i));
}

template <class T>
Panels<T> panels_of(const Pool& pool, char* values, float* scales, int64_t layer_idx) {
  const int64_t num_heads =
      static_cast<int64_t>(pool.shape.num_blocks) * pool.shape.block_size * pool.shape.num_kv_heads;
  const int64_t layer_bytes = num_heads * pool.shape.head_dim * bytes_of(pool.precision);
  return {pool.shape, values + layer_idx * layer_bytes, scales ? scales + layer_idx * num_heads : nullptr};
}

}  // namespace

void Stack::run(float* hidden, const Step& step, const Pool& pool) {
  if (pool.precision == Precision::kF32)
    run_typed<F32>(hidden, step, pool);
  else
    run_typed<Bf16>(hidden, step, pool);
}

template <class T>
void Stack::run_typed(float* hidden, const Step& step, const Pool& pool) {
  const size_t rows = step.num_rows;
  // A norm behind a matrix needs whole rows: there is no copy of one's own of what others add.
  is_few_ = step.num_rows <= kFewRows && !layers_.front().after_attention_norm;
  grow(qkv_, rows * qkv_size());
  grow(attended_, rows * shape_.q_size());
  grow(queries_, rows * shape_.q_size() * sizeof(typename T::X));
  grow(gated_, rows * shape_.ffn);
  grow(added_, rows * shape_.hidden);
  grow(normed_, static_cast<size_t>(threads_.num_threads()) * shape_.hidden);
  reserve(to_qkv_, step.num_rows, shape_.hidden);
  reserve(to_out_, step.num_rows, shape_.q_size());
  reserve(to_gate_up_, step.num_rows, shape_.hidden);
  reserve(to_down_, step.num_rows, shape_.ffn);
  list_attention_tasks(step);
  if (tasks_left_.size() < layers_.size()) tasks_left_ = std::vector<std::atomic<int>>(layers_.size());
  for (auto& left : tasks_left_) left.store(static_cast<int>(tasks_.size()) * shape_.num_kv_heads);
  threads_.run([&](int thread) { run_layers<T>(thread, hidden, step, pool); });
}

template <class T>
void Stack::run_layers(int thread, float* hidden, const Step& step, const Pool& pool) {
  const int rows = step.num_rows, width = shape_.hidden, threads = threads_.num_threads();
  float* normed = normed_.data() + thread * width;
  auto row_of = [](std::vector<float>& values, int row, int size) {
    return values.data() + static_cast<int64_t>(row) * size;
  };
  // What a matrix gave: added at once, or normed first where the model does so.
  const float* pending_norm = nullptr;
  auto normed_row = [&](int row, const float* norm) {
    float* x = hidden + static_cast<int64_t>(row) * width;
    if (pending_norm) {
      float* added = row_of(added_, row, width);
      rms_norm(added, pending_norm, width, shape_.eps, added);
      add_to(x, added, width);
    }
    rms_norm(x, norm, width, shape_.eps, normed);
    return normed;
  };
  auto add_product = [&](const Matrix& matrix, const Rows& ready, const float* norm) {
    float* out = norm ? added_.data() : hidden;
    multiply_share(matrix, ready, thread, [&](int row, int panel, Floats left, Floats right) {
      float* to = out + static_cast<int64_t>(row) * width + panel * kPanel;
      const int room = width - panel * kPanel;
      store(to, norm ? left : load(to) + left);
      if (room > kFloats) store(to + kFloats, norm ? right : load(to + kFloats) + right);
    });
    pending_norm = norm;
    threads_.barrier();
  };
  for (size_t i = 0; i < layers_.size(); ++i) {
    const LayerSpec& layer = layers_[i];
    const Matrix &qkv = matrices_[layer.qkv], &out = matrices_[layer.attention_out];
    const Matrix &gate_up = matrices_[layer.gate_up], &down = matrices_[layer.down];
    const auto keys = panels_of<T>(pool, pool.keys, pool.key_scales, i);
    const auto values = panels_of<T>(pool, pool.values, pool.value_scales, i);

    const Rows to_qkv =
        fill(to_qkv_, qkv, rows, thread, [&](int row) { return normed_row(row, layer.attention_norm); });
    multiply_share(qkv, to_qkv, thread, [&](int row, int panel, Floats left, Floats right) {
      float* to = row_of(qkv_, row, qkv_size()) + panel * kPanel;
      store(to, left);
      store(to + kFloats, right);
    });
    threads_.barrier();
    for (int task = thread; task < rows * shape_.num_kv_heads; task += threads)
      place<T>(layer, step, task / shape_.num_kv_heads, task % shape_.num_kv_heads, keys, values);
    threads_.barrier();
    attend_layer<T>(static_cast<int>(i), step, keys, values);
    threads_.barrier();
    const Rows to_out =
        fill(to_out_, out, rows, thread, [&](int row) { return row_of(attended_, row, shape_.q_size()); });
    add_product(out, to_out, layer.after_attention_norm);

    const Rows to_gate_up =
        fill(to_gate_up_, gate_up, rows, thread, [&](int row) { return normed_row(row, layer.mlp_norm); });
    multiply_share(gate_up, to_gate_up, thread, [&](int row, int panel, Floats gate, Floats up) {
      store(row_of(gated_, row, shape_.ffn) + panel * kFloats, activate(shape_.activation, gate) * up);
    });
    threads_.barrier();
    const Rows to_down =
        fill(to_down_, down, rows, thread, [&](int row) { return row_of(gated_, row, shape_.ffn); });
    add_product(down, to_down, layer.after_mlp_norm);
  }
  if (pending_norm)
    for (int row = thread; row < rows; row += threads) normed_row(row, layers_.front().attention_norm);
}

// Applies the position to the heads of a row that share K and V, and stores these.
template <class T>
void Stack::place(const LayerSpec& layer, const Step& step, int row, int kv_head, const Panels<T>& keys,
                  const Panels<T>& values) {
  using X = typename T::X;
  const int dim = shape_.head_dim, group = shape_.group();
  const int64_t turn = step.positions[row] * (dim / 2);
  const float *cos = ropes_[layer.rope].cos + turn, *sin = ropes_[layer.rope].sin + turn;
  float* heads = qkv_.data() + static_cast<int64_t>(row) * qkv_size();
  auto turned = [&](int head, const float* norm) {
    float* values = heads + head * dim;
    if (norm) rms_norm(values, norm, dim, shape_.eps, values);
    rotate(values, cos, sin, dim);
    return values;
  };
  X* query = reinterpret_cast<X*>(queries_.data()) +
             (static_cast<int64_t>(kv_head) * step.num_rows + row) * group * dim;
  for (int g = 0; g < group; ++g, query += dim) {
    const float* head = turned(kv_head * group + g, layer.q_norm);
    for (int d = 0; d < dim; d += kFloats) store(query + d, load(head + d));
  }
  keys.put_key(step.slots[row], kv_head, turned(shape_.num_heads + kv_head, layer.k_norm));
  values.put_value(step.slots[row], kv_head, heads + (shape_.num_heads + shape_.num_kv_heads + kv_head) * dim);
}

// Rows that follow one another in a sequence share their keys: as many as fit into a tile.
void Stack::list_attention_tasks(const Step& step) {
  const int group = shape_.group(), most_rows = std::max(1, kMaxTile / group);
  tasks_.clear();
  for (int row = 0, end; row < step.num_rows; row = end) {
    end = row + 1;
    while (end < step.num_rows && end - row < most_rows && step.first_block[end] == step.first_block[row] &&
           step.positions[end] == step.positions[end - 1] + 1)
      ++end;
    for (int first = 0; first < (end - row) * group; first += kMaxTile)
      tasks_.push_back({row, first, std::min(kMaxTile, (end - row) * group - first)});
  }
}

// Taken by whoever is free: contexts differ too much to share out beforehand.
template <class T>
void Stack::attend_layer(int layer_idx, const Step& step, const Panels<T>& keys, const Panels<T>& values) {
  const int group = shape_.group(), dim = shape_.head_dim, num_kv_heads = shape_.num_kv_heads;
  const Scoring scoring{shape_.attention_scale, layers_[layer_idx].window, shape_.score_softcap};
  // From the last one on: in a prompt it is the longest.
  for (int left; (left = tasks_left_[layer_idx].fetch_sub(1, std::memory_order_relaxed)) > 0;) {
    const AttentionTask& task = tasks_[(left - 1) / num_kv_heads];
    Heads<T> heads;
    heads.kv_head = (left - 1) % num_kv_heads;
    heads.count = task.count;
    heads.block_ids = step.block_ids + step.first_block[task.row];
    const int64_t first = (static_cast<int64_t>(heads.kv_head) * step.num_rows + task.row) * group + task.first;
    heads.queries = reinterpret_cast<const typename T::X*>(queries_.data()) + first * dim;
    for (int m = 0; m < task.count; ++m) {
      const int row = task.row + (task.first + m) / group, head = heads.kv_head * group + (task.first + m) % group;
      heads.positions[m] = static_cast<int>(step.positions[row]);
      heads.outs[m] = attended_.data() + static_cast<int64_t>(row) * shape_.q_size() + head * dim;
    }
    attend<T>(heads, keys, values, scoring);
  }
}

}  // namespace tokenmill
