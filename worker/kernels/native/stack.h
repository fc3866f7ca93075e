// All layers of a Llama-like model over the packed rows of one step, in one call.
#pragma once

#include <atomic>
#include <deque>
#include <vector>

#include "arena.h"
#include "attention.h"
#include "multiply.h"
#include "rows.h"
#include "thread_pool.h"

namespace tokenmill {

enum class Activation { kSilu, kGeluTanh };

struct Shape {
  int hidden, ffn, num_heads, num_kv_heads, head_dim;
  float eps, attention_scale, score_softcap;
  Activation activation;
  int q_size() const { return num_heads * head_dim; }
  int kv_size() const { return num_kv_heads * head_dim; }
  int group() const { return num_heads / num_kv_heads; }
};

struct RopeTable {
  const float *cos, *sin;  // (num_positions, head_dim / 2)
};

// Matrices and tables by index; a norm that the model lacks is null.
struct LayerSpec {
  int qkv, attention_out, gate_up, down, rope, window;
  const float *attention_norm, *q_norm, *k_norm, *after_attention_norm, *mlp_norm, *after_mlp_norm;
};

struct Pool {
  Precision precision;
  PoolShape shape;
  char *keys, *values;
  float *key_scales, *value_scales;  // int8 only
};

// All arrays have one entry a row, but for block_ids.
struct Step {
  int num_rows;
  const int64_t *positions, *slots;
  const int64_t* first_block;  // where the row's block table begins in
  const int64_t* block_ids;    // the tables of all sequences
};

class Stack {
 public:
  static constexpr int kFewRows = 4;

  Stack(const Shape& shape, int num_threads) : shape_(shape), threads_(num_threads) {}

  // weight is copied: (num_rows, num_columns), row-major.
  int add_matrix(Matrix matrix, const char* weight, const float* scales, const float* biases, bool is_paired);
  int add_int4(Matrix matrix, const Int4Source& weight, const float* scales, const float* biases, bool is_paired);
  int add_rope(const RopeTable& rope);
  void add_layer(const LayerSpec& layer) { layers_.push_back(layer); }
  const Matrix& matrix(int matrix_idx) const { return matrices_.at(matrix_idx); }
  const Shape& shape() const { return shape_; }
  int num_layers() const { return static_cast<int>(layers_.size()); }
  int num_ropes() const { return static_cast<int>(ropes_.size()); }

  // Rows of a matrix as float32: (num_ids, num_columns).
  void look_up(int matrix_idx, const int64_t* row_ids, int num_ids, float* out) const;

  // Runs all layers on hidden (num_rows, hidden), in place; writes the rows' K and V.
  void run(float* hidden, const Step& step, const Pool& pool);

  // norm(rows) * matrix^T: (num_rows, hidden) -> (num_rows, matrix rows).
  void project(int matrix_idx, const float* rows, int num_rows, const float* norm, float* out);

 private:
  template <class Pack>
  int add(Matrix matrix, const float* scales, const float* biases, bool is_paired, const Pack& pack_into);

  // Neighbouring heads of a sequence's rows, as `attend` takes them; once for each K/V head.
  struct AttentionTask {
    int row, first, count;  // vectors first .. of the rows from `row` on
  };

  template <class T>
  void run_typed(float* hidden, const Step& step, const Pool& pool);
  template <class T>
  void run_layers(int thread, float* hidden, const Step& step, const Pool& pool);
  template <class T>
  void attend_layer(int layer_idx, const Step& step, const Panels<T>& keys, const Panels<T>& values);
  template <class T>
  void place(const LayerSpec& layer, const Step& step, int row, int kv_head, const Panels<T>& keys,
             const Panels<T>& values);
  void list_attention_tasks(const Step& step);

  // Whole panels: the kernels write no less.
  int qkv_size() const { return (shape_.q_size() + 2 * shape_.kv_size() + kPanel - 1) / kPanel * kPanel; }

  // What goes into a matrix, ready: make(row) gives a row's values. With few rows each thread makes
  // its own copy: cheaper than to wait for the others' share.
  template <class Make>
  Rows fill(std::vector<RowBuffer>& buffers, const Matrix& matrix, int num_rows, int thread, const Make& make) {
    if (is_few_) {
      for (int row = 0; row < num_rows; ++row) buffers[thread].put(matrix, row, make(row));
      return buffers[thread].rows(matrix, num_rows);
    }
    for (int row = thread; row < num_rows; row += threads_.num_threads()) buffers[0].put(matrix, row, make(row));
    threads_.barrier();
    return buffers[0].rows(matrix, num_rows);
  }

  void reserve(std::vector<RowBuffer>& buffers, int num_rows, int num_columns) {
    buffers.resize(threads_.num_threads());
    for (int i = 0; i < (is_few_ ? threads_.num_threads() : 1); ++i) buffers[i].reserve(num_rows, num_columns);
  }

  template <class Finish>
  void multiply_share(const Matrix& matrix, const Rows& rows, int thread, const Finish& finish) {
    const int panels = matrix.num_panels(), threads = threads_.num_threads();
    multiply(matrix, rows, panels * thread / threads, panels * (thread + 1) / threads, finish);
  }

  const Shape shape_;
  ThreadPool threads_;
  Arena arena_;
  std::deque<Matrix> matrices_;
  std::vector<LayerSpec> layers_;
  std::vector<RopeTable> ropes_;

  // Of the step at hand.
  bool is_few_ = false;
  std::vector<AttentionTask> tasks_;
  std::vector<std::atomic<int>> tasks_left_;
  std::vector<float> qkv_, attended_, gated_, added_, normed_;
  std::vector<char> queries_;
  std::vector<RowBuffer> to_qkv_, to_out_, to_gate_up_, to_down_, to_matrix_;
};

template <class T>
void grow(std::vector<T>& buffer, size_t size) {
  if (buffer.size() < size) buffer.resize(size);
}

}  // namespace tokenmill
