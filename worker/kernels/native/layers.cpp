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
  sharing_ = sharing_of(step.num_rows);
  if (sharing_ == Sharing::kCopies && layers_.front().after_attention_norm) sharing_ = Sharing::kColumns;
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
  for (auto& left : tasks_left_) left.store(static_cast<int>(tasks_.size()));
  threads_.run([&](int thread) { run_layers<T>(thread, hidden, step, pool); });
}

template <class T>
void Stack::run_layers(int thread, float* hidden, const Step& step, const Pool& pool) {
  const int rows = step.num_rows, width = shape_.hidden;
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
  auto add_product = [&](const Matrix& matrix, const Rows& ready, Range chunk, const float* norm, Phase phase) {
    float* out = norm ? added_.data() : hidden;
    multiply_share(matrix, ready, chunk, thread, [&](int row, int panel, Floats left, Floats right) {
      float* to = out + static_cast<int64_t>(row) * width + panel * kPanel;
      const int room = width - panel * kPanel;
      store(to, norm ? left : load(to) + left);
      if (room > kFloats) store(to + kFloats, norm ? right : load(to + kFloats) + right);
    });
    pending_norm = norm;
    finish_product(thread, phase);
  };
  if (thread == 0) clock_.start();
  for (size_t i = 0; i < layers_.size(); ++i) {
    const LayerSpec& layer = layers_[i];
    const Matrix &qkv = matrices_[layer.qkv], &out = matrices_[layer.attention_out];
    const Matrix &gate_up = matrices_[layer.gate_up], &down = matrices_[layer.down];
    const auto keys = panels_of<T>(pool, pool.keys, pool.key_scales, i);
    const auto values = panels_of<T>(pool, pool.values, pool.value_scales, i);

    for_chunks(rows, thread, [&](Range chunk) {
      const Rows to_qkv =
          fill(to_qkv_, qkv, rows, chunk, thread, [&](int row) { return normed_row(row, layer.attention_norm); });
      multiply_share(qkv, to_qkv, chunk, thread, [&](int row, int panel, Floats left, Floats right) {
        float* to = row_of(qkv_, row, qkv_size()) + panel * kPanel;
        store(to, left);
        store(to + kFloats, right);
      });
      finish_product(thread, Phase::kQkv);
      if (!is_decoding_) {
        place_rows<T>(sharing_ == Sharing::kRows ? chunk : share_of(rows, thread), layer, step, keys, values);
        lap(thread, Phase::kPlace);
      }
    });
    // Rows are attended to by whoever is free.
    if (!is_decoding_ || sharing_ == Sharing::kRows) meet(thread, Phase::kPlace);
    attend_layer<T>(static_cast<int>(i), step, keys, values);
    meet(thread, Phase::kAttention);
    for_chunks(rows, thread, [&](Range chunk) {
      const Rows to_out =
          fill(to_out_, out, rows, chunk, thread, [&](int row) { return row_of(attended_, row, shape_.q_size()); });
      add_product(out, to_out, chunk, layer.after_attention_norm, Phase::kAttentionOut);

      const Rows to_gate_up =
          fill(to_gate_up_, gate_up, rows, chunk, thread, [&](int row) { return normed_row(row, layer.mlp_norm); });
      multiply_share(gate_up, to_gate_up, chunk, thread, [&](int row, int panel, Floats gate, Floats up) {
        store(row_of(gated_, row, shape_.ffn) + panel * kFloats, activate(shape_.activation, gate) * up);
      });
      finish_product(thread, Phase::kGateUp);
      const Rows to_down =
          fill(to_down_, down, rows, chunk, thread, [&](int row) { return row_of(gated_, row, shape_.ffn); });
      add_product(down, to_down, chunk, layer.after_mlp_norm, Phase::kDown);
    });
  }
  const Range share = share_of(rows, thread);
  if (pending_norm)
    for (int row = share.begin; row < share.end; ++row) normed_row(row, layers_.front().attention_norm);
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

template <class T>
void Stack::place_rows(Range rows, const LayerSpec& layer, const Step& step, const Panels<T>& keys,
                       const Panels<T>& values) {
  // Neighbours in a panel to one thread: two that write to the same lines would take them from each other.
  for (int row = rows.begin; row < rows.end; ++row)
    for (int kv_head = 0; kv_head < shape_.num_kv_heads; ++kv_head) place<T>(layer, step, row, kv_head, keys, values);
}

// Rows that follow one another in a sequence share their keys: as many as fit into a tile.
void Stack::list_attention_tasks(const Step& step) {
  const int group = shape_.group(), most_rows = std::max(1, kMaxTile / group);
  tasks_.clear();
  const auto list = [&](int row, int first, int count, int num_joined) {
    for (int kv_head = 0; kv_head < shape_.num_kv_heads; kv_head += num_joined)
      tasks_.push_back({row, first, count, kv_head, std::min(num_joined, shape_.num_kv_heads - kv_head)});
  };
  // K/V heads are joined where enough is left to share out among the threads.
  is_decoding_ = group <= kMaxTile;  // else two tasks would share a key
  const bool is_joining = step.num_rows >= 4 * threads_.num_threads();
  for (int row = 0, end; row < step.num_rows; row = end) {
    end = row + 1;
    while (end < step.num_rows && end - row < most_rows && step.first_block[end] == step.first_block[row] &&
           step.positions[end] == step.positions[end - 1] + 1)
      ++end;
    is_decoding_ = is_decoding_ && end == row + 1 && (end == step.num_rows || step.first_block[end] != step.first_block[row]);
    for (int first = 0; first < (end - row) * group; first += kMaxTile) {
      const int count = std::min(kMaxTile, (end - row) * group - first);
      list(row, first, count, is_joining ? kMaxTile / count : 1);
    }
  }
}

template <class T>
Heads<T> Stack::heads_of(const AttentionTask& task, const Step& step) {
  const int group = shape_.group(), dim = shape_.head_dim;
  Heads<T> heads;
  heads.kv_head = task.kv_head;
  heads.num_kv_heads = task.num_kv_heads;
  heads.count = task.count;
  heads.block_ids = step.block_ids + step.first_block[task.row];
  for (int m = 0; m < task.count; ++m)
    heads.positions[m] = static_cast<int>(step.positions[task.row + (task.first + m) / group]);
  for (int kv = 0; kv < task.num_kv_heads; ++kv) {
    const int kv_head = task.kv_head + kv;
    const int64_t first = (static_cast<int64_t>(kv_head) * step.num_rows + task.row) * group + task.first;
    heads.queries[kv] = reinterpret_cast<const typename T::X*>(queries_.data()) + first * dim;
    for (int m = 0; m < task.count; ++m) {
      const int row = task.row + (task.first + m) / group, head = kv_head * group + (task.first + m) % group;
      heads.outs[kv * task.count + m] = attended_.data() + static_cast<int64_t>(row) * shape_.q_size() + head * dim;
    }
  }
  return heads;
}

// Taken by whoever is free: contexts differ too much to share out beforehand.
template <class T>
void Stack::attend_layer(int layer_idx, const Step& step, const Panels<T>& keys, const Panels<T>& values) {
  const Scoring scoring{shape_.attention_scale, layers_[layer_idx].window, shape_.score_softcap};
  // From the last one on: in a prompt it is the longest.
  const auto take = [&] { return tasks_left_[layer_idx].fetch_sub(1, std::memory_order_relaxed) - 1; };
  const auto for_heads = [&](const AttentionTask& task, const auto& apply) {
    for (int kv = 0; kv < task.num_kv_heads; ++kv) apply(task.row, task.kv_head + kv);
  };
  Heads<T> heads[2];
  int task = take();
  if (task >= 0) heads[0] = heads_of<T>(tasks_[task], step);
  for (int i = 0; task >= 0; i ^= 1) {
    // One ahead, so that its memory is on the way.
    const int next = take();
    if (next >= 0) heads[i ^ 1] = heads_of<T>(tasks_[next], step);
    if (is_decoding_)
      for_heads(tasks_[task], [&](int row, int kv_head) {
        place<T>(layers_[layer_idx], step, row, kv_head, keys, values);
      });
    if (is_decoding_ && next >= 0)
      for_heads(tasks_[next], [&](int row, int kv_head) {
        keys.want_key(step.slots[row], kv_head);
        values.want_value(step.slots[row], kv_head);
      });
    attend<T>(heads[i], next >= 0 ? &heads[i ^ 1] : nullptr, keys, values, scoring);
    task = next;
  }
}

}  // namespace tokenmill
