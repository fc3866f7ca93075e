// All layers of a Llama-like model over the packed rows of one step, in one call.

#include <torch/extension.h>

#include <deque>

#include "arena.h"
#include "attention.h"
#include "thread_pool.h"

namespace tokenmill {

struct Shape {
  int hidden, ffn, num_heads, num_kv_heads, head_dim;
  float eps, scale;
  int q_size() const { return num_heads * head_dim; }
  int kv_size() const { return num_kv_heads * head_dim; }
};

struct Layer {
  Matrix qkv, attention_out, gate_up, down;
  const float *attention_norm, *mlp_norm, *q_norm, *k_norm;
  int window;  // 0 sees all
};

// A step as the attention sees it; all tensors int64, one entry a row unless said.
struct Step {
  const int64_t *positions, *slots, *first_block;  // first_block: where the row's table begins in
  const int64_t* block_ids;                        // the tables of all sequences
  const float *cos, *sin;                          // (num_positions, head_dim / 2)
  int num_rows;
};

template <class T>
const T* data_or_null(const c10::optional<at::Tensor>& tensor) {
  return tensor ? tensor->data_ptr<T>() : nullptr;
}

std::vector<int32_t> row_sums(const at::Tensor& codes) {
  std::vector<int32_t> sums(codes.size(0));
  const auto* code = codes.data_ptr<int8_t>();
  for (auto& sum : sums)
    for (int64_t i = 0; i < codes.size(1); ++i) sum += *code++;
  return sums;
}

class Stack {
 public:
  Stack(int hidden, int ffn, int num_heads, int num_kv_heads, int head_dim, double eps, double scale,
        int num_threads)
      : shape_{hidden, ffn, num_heads, num_kv_heads, head_dim, static_cast<float>(eps), static_cast<float>(scale)},
        pool_(num_threads) {}

  // weight: float32, bfloat16 or int8, (rows, columns), contiguous; kept alive here.
  int add_matrix(at::Tensor weight, c10::optional<at::Tensor> scales, c10::optional<at::Tensor> bias,
                 bool is_precise) {
    TORCH_CHECK(weight.is_contiguous() && weight.dim() == 2, "a matrix is contiguous");
    Matrix matrix{};
    matrix.num_rows = weight.size(0);
    matrix.num_columns = weight.size(1);
    matrix.is_precise = is_precise;
    matrix.scales = data_or_null<float>(scales);
    matrix.bias = data_or_null<float>(bias);
    matrix.precision = weight.scalar_type() == at::kChar       ? Precision::kInt8
                       : weight.scalar_type() == at::kBFloat16 ? Precision::kBf16
                                                               : Precision::kF32;
    TORCH_CHECK(matrix.num_rows % 4 == 0 && matrix.num_columns % lanes_of(matrix.precision) == 0,
                "a matrix is a whole number of tiles");
    matrix.weight = arenas_.emplace_back(weight.data_ptr(), matrix).data();
    if (matrix.precision == Precision::kInt8) matrix.code_sums = row_sums(weight);
    if (scales) kept_.push_back(*scales);
    if (bias) kept_.push_back(*bias);
    matrices_.push_back(std::move(matrix));
    return static_cast<int>(matrices_.size()) - 1;
  }

  // Rows of a matrix as float32, an int8 one's scaled: (num_ids,) -> (num_ids, columns).
  at::Tensor look_up(int matrix_idx, at::Tensor row_ids) const {
    const Matrix& matrix = matrices_[matrix_idx];
    const int lanes = lanes_of(matrix.precision), size = bytes_of(matrix.precision), k = matrix.num_columns;
    at::Tensor out = at::empty({row_ids.size(0), k}, at::kFloat);
    float* to = out.data_ptr<float>();
    for (int64_t i = 0; i < row_ids.size(0); ++i) {
      const int64_t row = row_ids.data_ptr<int64_t>()[i];
      for (int c = 0; c < k; ++c, ++to) {
        const int64_t at = ((row / 4 * (k / lanes) + c / lanes) * 4 + row % 4) * lanes + c % lanes;
        const char* value = static_cast<const char*>(matrix.weight) + at * size;
        *to = matrix.precision == Precision::kF32    ? *reinterpret_cast<const float*>(value)
              : matrix.precision == Precision::kBf16 ? from_bf16(*reinterpret_cast<const bf16*>(value))
                                                     : *reinterpret_cast<const int8_t*>(value) * matrix.scales[row];
      }
    }
    return out;
  }

  void add_layer(int qkv, int attention_out, int gate_up, int down, at::Tensor attention_norm,
                 at::Tensor mlp_norm, c10::optional<at::Tensor> q_norm, c10::optional<at::Tensor> k_norm,
                 int window) {
    layers_.push_back({matrices_[qkv], matrices_[attention_out], matrices_[gate_up], matrices_[down],
                       attention_norm.data_ptr<float>(), mlp_norm.data_ptr<float>(), data_or_null<float>(q_norm),
                       data_or_null<float>(k_norm), window});
    for (const auto& tensor : {attention_norm, mlp_norm}) kept_.push_back(tensor);
    if (q_norm) kept_.push_back(*q_norm);
    if (k_norm) kept_.push_back(*k_norm);
  }

  // Runs all layers on hidden (num_rows, hidden) float32, in place; writes the rows' K and V.
  void run(at::Tensor hidden, at::Tensor positions, at::Tensor slots, at::Tensor first_block,
           at::Tensor block_ids, at::Tensor cos, at::Tensor sin, at::Tensor keys, at::Tensor values) {
    const Step step{positions.data_ptr<int64_t>(), slots.data_ptr<int64_t>(), first_block.data_ptr<int64_t>(),
                    block_ids.data_ptr<int64_t>(), cos.data_ptr<float>(), sin.data_ptr<float>(),
                    static_cast<int>(hidden.size(0))};
    py::gil_scoped_release released;
    if (keys.scalar_type() == at::kBFloat16)
      run_typed<bf16>(hidden.data_ptr<float>(), step, keys, values);
    else
      run_typed<float>(hidden.data_ptr<float>(), step, keys, values);
  }

  // norm(rows) * matrix^T: (num_rows, hidden) float32 -> (num_rows, matrix rows) float32.
  at::Tensor project(int matrix_idx, at::Tensor rows, at::Tensor norm) {
    const Matrix& matrix = matrices_[matrix_idx];
    const int num_rows = rows.size(0);
    at::Tensor out = at::empty({num_rows, matrix.num_rows}, rows.options());
    const float *x = rows.data_ptr<float>(), *weight = norm.data_ptr<float>();
    float* y = out.data_ptr<float>();
    py::gil_scoped_release released;
    to_matrix_.resize(num_rows, matrix.num_columns, matrix);
    scratch_.resize(std::max<size_t>(scratch_.size(), static_cast<size_t>(num_rows) * matrix.num_columns));
    pool_.run([&](int thread) {
      for (int t = thread; t < num_rows; t += pool_.num_threads()) {
        float* normed = scratch_.data() + static_cast<int64_t>(t) * matrix.num_columns;
        rms_norm(x + static_cast<int64_t>(t) * matrix.num_columns, weight, matrix.num_columns, shape_.eps, normed);
        to_matrix_.put(t, normed);
      }
      pool_.barrier();
      multiply_share(matrix, to_matrix_, thread, y, matrix.num_rows, Into::kStore);
    });
    return out;
  }

 private:
  void multiply_share(const Matrix& matrix, const RowBuffer& rows, int thread, float* out, int64_t stride,
                      Into into) {
    const int quads = matrix.num_rows / 4, threads = pool_.num_threads();
    multiply(matrix, rows.rows(), quads * thread / threads * 4, quads * (thread + 1) / threads * 4, out, stride, into);
  }

  template <class E>
  void run_typed(float* hidden, const Step& step, at::Tensor& keys, at::Tensor& values) {
    const int rows = step.num_rows, q_size = shape_.q_size(), kv_size = shape_.kv_size();
    const int block_size = keys.size(2);
    qkv_.resize(std::max<size_t>(qkv_.size(), static_cast<size_t>(rows) * (q_size + 2 * kv_size)));
    scratch_.resize(std::max<size_t>(scratch_.size(), static_cast<size_t>(rows) * 2 * std::max(shape_.ffn, shape_.hidden)));
    attended_.resize(std::max<size_t>(attended_.size(), static_cast<size_t>(rows) * q_size));
    query_.resize(std::max<size_t>(query_.size(), static_cast<size_t>(rows) * q_size * sizeof(E)));
    normed_.resize(pool_.num_threads() * shape_.hidden);
    const int64_t layer_stride = keys.stride(0);
    for (auto& next : next_task_) next.store(0);
    if (next_task_.size() < layers_.size()) next_task_ = std::vector<std::atomic<int>>(layers_.size());
    // Buffers keep their size over the layers, so that no thread resizes what another reads.
    to_qkv_.resize(rows, shape_.hidden, layers_[0].qkv);
    to_out_.resize(rows, q_size, layers_[0].attention_out);
    to_gate_up_.resize(rows, shape_.hidden, layers_[0].gate_up);
    to_down_.resize(rows, shape_.ffn, layers_[0].down);
    pool_.run([&](int thread) {
      for (size_t i = 0; i < layers_.size(); ++i) {
        E* k = static_cast<E*>(keys.data_ptr()) + i * layer_stride;
        E* v = static_cast<E*>(values.data_ptr()) + i * layer_stride;
        run_layer<E>(thread, layers_[i], next_task_[i], hidden, step, k, v, block_size);
      }
    });
  }

  template <class E>
  void run_layer(int thread, const Layer& layer, std::atomic<int>& next_task, float* hidden, const Step& step,
                 E* keys, E* values, int block_size) {
    const int rows = step.num_rows, threads = pool_.num_threads(), width = shape_.hidden;
    const int q_size = shape_.q_size(), kv_size = shape_.kv_size(), qkv_size = q_size + 2 * kv_size;
    float* normed = normed_.data() + thread * width;
    auto normalise = [&](const float* weight, RowBuffer& into) {
      for (int t = thread; t < rows; t += threads) {
        rms_norm(hidden + static_cast<int64_t>(t) * width, weight, width, shape_.eps, normed);
        into.put(t, normed);
      }
      pool_.barrier();
    };
    normalise(layer.attention_norm, to_qkv_);
    multiply_share(layer.qkv, to_qkv_, thread, qkv_.data(), qkv_size, Into::kStore);
    pool_.barrier();
    for (int t = thread; t < rows; t += threads) place(layer, step, t, keys, values);
    pool_.barrier();
    attend_all<E>(layer, next_task, step, keys, values, block_size);
    pool_.barrier();
    for (int t = thread; t < rows; t += threads) to_out_.put(t, attended_.data() + static_cast<int64_t>(t) * q_size);
    pool_.barrier();
    multiply_share(layer.attention_out, to_out_, thread, hidden, width, Into::kAdd);
    pool_.barrier();
    normalise(layer.mlp_norm, to_gate_up_);
    multiply_share(layer.gate_up, to_gate_up_, thread, scratch_.data(), 2 * shape_.ffn, Into::kStore);
    pool_.barrier();
    for (int t = thread; t < rows; t += threads) {
      float* gate = scratch_.data() + static_cast<int64_t>(t) * 2 * shape_.ffn;
      silu_and_multiply(gate, gate + shape_.ffn, shape_.ffn);
      to_down_.put(t, gate);
    }
    pool_.barrier();
    multiply_share(layer.down, to_down_, thread, hidden, width, Into::kAdd);
    pool_.barrier();
  }

  // Applies the position to a row's query and key, and stores its K and V.
  template <class E>
  void place(const Layer& layer, const Step& step, int row, E* keys, E* values) {
    const int dim = shape_.head_dim, q_size = shape_.q_size(), kv_size = shape_.kv_size();
    float* heads = qkv_.data() + static_cast<int64_t>(row) * (q_size + 2 * kv_size);
    const float* cos = step.cos + step.positions[row] * (dim / 2);
    const float* sin = step.sin + step.positions[row] * (dim / 2);
    for (int h = 0; h < shape_.num_heads + shape_.num_kv_heads; ++h) {
      const float* norm = h < shape_.num_heads ? layer.q_norm : layer.k_norm;
      if (norm) rms_norm(heads + h * dim, norm, dim, shape_.eps, heads + h * dim);
      rotate(heads + h * dim, cos, sin, dim);
    }
    E* query = reinterpret_cast<E*>(query_.data()) + static_cast<int64_t>(row) * q_size;
    for (int i = 0; i < q_size; ++i) query[i] = KvElement<E>::from(heads[i]);
    const int64_t to = step.slots[row] * kv_size;
    for (int i = 0; i < kv_size; ++i) {
      keys[to + i] = KvElement<E>::from(heads[q_size + i]);
      values[to + i] = KvElement<E>::from(heads[q_size + kv_size + i]);
    }
  }

  // Heads of rows, taken by whoever is free: contexts differ too much to share out beforehand.
  template <class E>
  void attend_all(const Layer& layer, std::atomic<int>& next_task, const Step& step, const E* keys, const E* values,
                  int block_size) {
    const int dim = shape_.head_dim, group = shape_.num_heads / shape_.num_kv_heads;
    const int num_tasks = step.num_rows * shape_.num_kv_heads;
    for (int task; (task = next_task.fetch_add(1, std::memory_order_relaxed)) < num_tasks;) {
      const int row = task / shape_.num_kv_heads, kv_head = task % shape_.num_kv_heads;
      const int last = static_cast<int>(step.positions[row]);
      const int first = layer.window ? std::max(0, last - layer.window + 1) : 0;
      const PagedKv<E> kv{keys, values, step.block_ids + step.first_block[row], block_size, shape_.kv_size()};
      for (int g = 0; g < group; ++g) {
        const int64_t at = static_cast<int64_t>(row) * shape_.q_size() + (kv_head * group + g) * dim;
        attend<E>(reinterpret_cast<const E*>(query_.data()) + at, kv, kv_head, dim, first, last, shape_.scale,
                  attended_.data() + at);
      }
    }
  }

  const Shape shape_;
  ThreadPool pool_;
  std::vector<Matrix> matrices_;
  std::vector<Layer> layers_;
  std::deque<Arena> arenas_;
  std::vector<at::Tensor> kept_;
  std::vector<std::atomic<int>> next_task_;
  std::vector<float> qkv_, scratch_, attended_, normed_;
  std::vector<uint8_t> query_;
  RowBuffer to_qkv_, to_out_, to_gate_up_, to_down_, to_matrix_;
};

}  // namespace tokenmill

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  using tokenmill::Stack;
  py::class_<Stack>(m, "Stack")
      .def(py::init<int, int, int, int, int, double, double, int>())
      .def("add_matrix", &Stack::add_matrix)
      .def("add_layer", &Stack::add_layer)
      .def("look_up", &Stack::look_up)
      .def("run", &Stack::run)
      .def("project", &Stack::project);
}
