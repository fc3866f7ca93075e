// All layers of a Llama-like model over the packed rows of one step, in one call.
#pragma once

#include <atomic>
#include <deque>
#include <vector>

#include "arena.h"
#include "attention.h"
#include "multiply.h"
#include "phase_clock.h"
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
  static constexpr int kManyRows = 64;  // a thread
  static constexpr int kChunkRows = 96;  // of a thread that has many

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
  void look_up(int matrix_idx, const int64_t* row_ids, int num_ids, float* out);

  // Runs all layers on hidden (num_rows, hidden), in place; writes the rows' K and V.
  void run(float* hidden, const Step& step, const Pool& pool);

  // Times phases from here on, from nothing; or no longer.
  void time_phases(bool on) { clock_.turn(on); }
  const PhaseClock& clock() const { return clock_; }

  // norm(rows) * matrix^T: (num_rows, hidden) -> (num_rows, matrix rows).
  void project(int matrix_idx, const float* rows, int num_rows, const float* norm, float* out);

 private:
  template <class Pack>
  int add(Matrix matrix, const float* scales, const float* biases, bool is_paired, const Pack& pack_into);

  struct Range {
    int begin, end;
  };

  // Neighbouring heads of a sequence's rows, as `attend` takes them.
  struct AttentionTask {
    int row, first, count;  // vectors first .. of the rows from `row` on
    int kv_head, num_kv_heads;
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
  template <class T>
  void place_rows(Range rows, const LayerSpec& layer, const Step& step, const Panels<T>& keys,
                  const Panels<T>& values);
  template <class T>
  Heads<T> heads_of(const AttentionTask& task, const Step& step);
  void list_attention_tasks(const Step& step);

  // Whole panels: the kernels write no less.
  int qkv_size() const { return (shape_.q_size() + 2 * shape_.kv_size() + kPanel - 1) / kPanel * kPanel; }

  void lap(int thread, Phase phase) {
    if (thread == 0) clock_.lap(phase);
  }

  // The phase ends when all threads are through with it.
  void meet(int thread, Phase phase) {
    lap(thread, phase);
    threads_.barrier();
    lap(thread, Phase::kWaiting);
  }

  // How threads share the work beside attention. Columns: each has some of a matrix's. Copies: so too, but
  // each makes all of the few rows ready for itself: cheaper than to wait for the others' share. Rows: each
  // has some of the many rows, all of their columns, and waits for nobody.
  enum class Sharing { kCopies, kColumns, kRows };

  Sharing sharing_of(int num_rows) const {
    if (num_rows <= kFewRows) return Sharing::kCopies;
    return num_rows >= kManyRows * threads_.num_threads() ? Sharing::kRows : Sharing::kColumns;
  }

  Range share_of(int count, int thread) const {
    const int64_t all = count, threads = threads_.num_threads();
    return {static_cast<int>(all * thread / threads), static_cast<int>(all * (thread + 1) / threads)};
  }

  // By rows, a thread takes so many through all phases that what one leaves stays in its cache for the next.
  template <class Work>
  void for_chunks(int num_rows, int thread, const Work& work) {
    if (sharing_ != Sharing::kRows) return work(Range{0, num_rows});
    const Range share = share_of(num_rows, thread);
    const int size = share.end - share.begin, count = (size + kChunkRows - 1) / kChunkRows;
    for (int i = 0; i < count; ++i) work(Range{share.begin + size * i / count, share.begin + size * (i + 1) / count});
  }

  // What goes into a matrix, ready: make(row) gives a row's values.
  template <class Make>
  Rows fill(std::vector<RowBuffer>& buffers, const Matrix& matrix, int num_rows, Range chunk, int thread,
            const Make& make) {
    RowBuffer& buffer = buffers[sharing_ == Sharing::kCopies ? thread : 0];
    const Range share = sharing_ == Sharing::kColumns ? share_of(num_rows, thread) : chunk;
    for (int row = share.begin; row < share.end; ++row) buffer.put(matrix, row, make(row));
    if (sharing_ == Sharing::kColumns)
      meet(thread, Phase::kRows);
    else
      lap(thread, Phase::kRows);
    return buffer.rows(matrix, num_rows);
  }

  void reserve(std::vector<RowBuffer>& buffers, int num_rows, int num_columns) {
    buffers.resize(threads_.num_threads());
    for (int i = 0; i < (sharing_ == Sharing::kCopies ? threads_.num_threads() : 1); ++i) buffers[i].reserve(num_rows, num_columns);
  }

  template <class Finish>
  void multiply_share(const Matrix& matrix, const Rows& rows, Range chunk, int thread, const Finish& finish) {
    if (sharing_ != Sharing::kRows) {
      const Range panels = share_of(matrix.num_panels(), thread);
      return multiply(matrix, rows, panels.begin, panels.end, finish);
    }
    multiply(matrix, part_of(matrix, rows, chunk.begin, chunk.end), 0, matrix.num_panels(),
             [&](int row, int panel, Floats left, Floats right) { finish(chunk.begin + row, panel, left, right); });
  }

  // Before rows are read that others may have made.
  void finish_product(int thread, Phase phase) {
    if (sharing_ == Sharing::kRows)
      lap(thread, phase);
    else
      meet(thread, phase);
  }

  const Shape shape_;
  ThreadPool threads_;
  Arena arena_;
  std::deque<Matrix> matrices_;
  std::vector<LayerSpec> layers_;
  std::vector<RopeTable> ropes_;
  PhaseClock clock_;

  // Of the step at hand.
  Sharing sharing_ = Sharing::kColumns;
  bool is_decoding_ = false;  // no two rows of one sequence
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
