// The kernels as Python sees them. Arrays are numpy's: what is asked of them is checked here, since
// beyond this door nothing is.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <sys/mman.h>

#include <map>
#include <optional>
#include <stdexcept>
#include <string>

#include "stack.h"

namespace py = pybind11;

namespace tokenmill {

namespace {

void require(bool holds, const std::string& what) {
  if (!holds) throw std::invalid_argument(what);
}

void check(const py::array& array, const char* name, std::initializer_list<int64_t> shape) {
  bool fits = array.ndim() == static_cast<int64_t>(shape.size()) && (array.flags() & py::array::c_style);
  int64_t axis = 0;
  for (int64_t size : shape) fits = fits && (array.shape(axis++) == size);
  std::string wanted;
  for (int64_t size : shape) wanted += (wanted.empty() ? "" : ", ") + std::to_string(size);
  require(fits, std::string(name) + " is not a contiguous array of shape (" + wanted + ")");
}

template <class T>
const T* data(const py::array& array, const char* name, std::initializer_list<int64_t> shape) {
  require(py::isinstance<py::array_t<T>>(array), std::string(name) + " has another type of values than wanted");
  check(array, name, shape);
  return static_cast<const T*>(array.data());
}

using Optional = std::optional<py::array>;

// bfloat16 comes as its bits: numpy has no such type.
Precision precision_of(const py::array& array, const char* name) {
  if (py::isinstance<py::array_t<float>>(array)) return Precision::kF32;
  if (py::isinstance<py::array_t<int16_t>>(array)) return Precision::kBf16;
  require(py::isinstance<py::array_t<int8_t>>(array), std::string(name) + " is neither float32, bfloat16 nor int8");
  return Precision::kInt8;
}

void check_range(const int64_t* values, int64_t count, int64_t end, const char* name) {
  for (int64_t i = 0; i < count; ++i)
    require(values[i] >= 0 && values[i] < end,
            std::string(name) + " holds " + std::to_string(values[i]) + "; allowed: 0 to " + std::to_string(end - 1));
}

}  // namespace

class Door {
 public:
  Door(int hidden, int ffn, int num_heads, int num_kv_heads, int head_dim, float eps, float attention_scale,
       float score_softcap, bool is_gelu, int num_threads)
      : stack_(checked({hidden, ffn, num_heads, num_kv_heads, head_dim, eps, attention_scale, score_softcap,
                        is_gelu ? Activation::kGeluTanh : Activation::kSilu}),
               num_threads) {
    require(num_threads >= 1 && num_threads <= 1024, "num_threads is not within 1 to 1024");
  }

  int add_matrix(const py::array& weight, const Optional& scales, const Optional& biases, bool is_precise,
                 bool is_paired) {
    require(weight.ndim() == 2, "weight has not two dimensions");
    const int64_t rows = weight.shape(0), columns = weight.shape(1);
    Matrix matrix{};
    matrix.precision = precision_of(weight, "weight");
    matrix.num_rows = static_cast<int>(rows);
    matrix.num_columns = static_cast<int>(columns);
    matrix.is_precise = is_precise;
    check(weight, "weight", {rows, columns});
    require(rows > 0 && rows < INT32_MAX && columns > 0 && columns < 1 << 20 && columns % kFloats == 0,
            "weight has no rows, or not a multiple of 16 columns below 2^20");
    require(!is_paired || rows % kPanel == 0, "a paired weight has not a multiple of 32 rows");
    require((matrix.precision == Precision::kInt8) == scales.has_value(), "int8 weights have scales, others have none");
    require(!is_precise || scales, "only int8 can be precise");
    const float* scale = scales ? data<float>(*scales, "scales", {rows}) : nullptr;
    const float* bias = biases ? data<float>(*biases, "biases", {rows}) : nullptr;
    return stack_.add_matrix(std::move(matrix), static_cast<const char*>(weight.data()), scale, bias, is_paired);
  }

  // As an Int4Matrix of the engine: four bits a weight, a step and a base for each 32 columns.
  int add_int4(const py::array& packed, const py::array& steps, const py::array& bases, const py::array& scales,
               const Optional& biases, bool is_precise, bool is_paired) {
    require(steps.ndim() == 2, "steps has not two dimensions");
    const int64_t rows = steps.shape(0), groups = steps.shape(1);
    require(rows > 0 && rows < INT32_MAX && groups > 0 && groups < 1 << 15, "steps has no rows or too many");
    require(!is_paired || rows % kPanel == 0, "a paired weight has not a multiple of 32 rows");
    const Int4Source source{data<uint8_t>(packed, "packed", {rows, groups * kGroup / 2}),
                            data<uint8_t>(steps, "steps", {rows, groups}), data<int8_t>(bases, "bases", {rows, groups})};
    // Beyond 17, 15 steps would not fit into the eight bits in which they are taken.
    for (int64_t i = 0; i < rows * groups; ++i) require(source.steps[i] <= 17, "steps holds more than 17");
    Matrix matrix{};
    matrix.precision = Precision::kInt4;
    matrix.num_rows = static_cast<int>(rows);
    matrix.num_columns = static_cast<int>(groups * kGroup);
    matrix.is_precise = is_precise;
    return stack_.add_int4(std::move(matrix), source, data<float>(scales, "scales", {rows}),
                           biases ? data<float>(*biases, "biases", {rows}) : nullptr, is_paired);
  }

  int add_rope(const py::array& cos, const py::array& sin) {
    require(cos.ndim() == 2, "cos has not two dimensions");
    const int64_t positions = cos.shape(0), half = stack_.shape().head_dim / 2;
    const RopeTable rope{data<float>(cos, "cos", {positions, half}), data<float>(sin, "sin", {positions, half})};
    require(num_positions_ == 0 || num_positions_ == positions, "rope tables differ in length");
    num_positions_ = positions;
    keep(cos);
    keep(sin);
    return stack_.add_rope(rope);
  }

  void add_layer(int qkv, int attention_out, int gate_up, int down, int rope, int window,
                 const py::array& attention_norm, const py::array& mlp_norm, const Optional& q_norm,
                 const Optional& k_norm, const Optional& after_attention_norm, const Optional& after_mlp_norm) {
    const Shape& shape = stack_.shape();
    check_matrix(qkv, "qkv", shape.q_size() + 2 * shape.kv_size(), shape.hidden);
    check_matrix(attention_out, "attention_out", shape.hidden, shape.q_size());
    check_matrix(gate_up, "gate_up", 2 * shape.ffn, shape.hidden);
    check_matrix(down, "down", shape.hidden, shape.ffn);
    require(rope >= 0 && rope < stack_.num_ropes(), "rope is no table that was added");
    require(window >= 0, "window is negative");
    require(after_attention_norm.has_value() == after_mlp_norm.has_value(), "one norm behind a matrix without the other");
    stack_.add_layer({qkv, attention_out, gate_up, down, rope, window, norm(attention_norm, shape.hidden),
                      norm(q_norm, shape.head_dim), norm(k_norm, shape.head_dim),
                      norm(after_attention_norm, shape.hidden), norm(mlp_norm, shape.hidden),
                      norm(after_mlp_norm, shape.hidden)});
  }

  // keys, values: (num_layers, num_blocks, block_size, num_kv_heads, head_dim); int8 ones have scales of
  // that shape but for a last 1. What order they have inside of a block is the kernels' own affair.
  void use_pool(py::array keys, py::array values, std::optional<py::array> key_scales,
                std::optional<py::array> value_scales) {
    const Shape& shape = stack_.shape();
    require(keys.ndim() == 5, "keys has not five dimensions");
    const int64_t layers = stack_.num_layers(), blocks = keys.shape(1), size = keys.shape(2);
    for (const py::array* array : {&keys, &values})
      check(*array, "keys or values", {layers, blocks, size, shape.num_kv_heads, shape.head_dim});
    require(size % kPanel == 0 && size > 0, "block_size is not a multiple of 32");
    pool_.precision = precision_of(keys, "keys");
    require(pool_.precision == precision_of(values, "values"), "keys and values differ in type");
    const bool is_int8 = pool_.precision == Precision::kInt8;
    require(is_int8 == key_scales.has_value() && is_int8 == value_scales.has_value(),
            "int8 keys and values have scales, others have none");
    pool_.shape = {shape.num_kv_heads, shape.head_dim, static_cast<int>(blocks), static_cast<int>(size)};
    pool_.keys = opened(keys);
    pool_.values = opened(values);
    for (auto* scales : {&key_scales, &value_scales})
      if (*scales) data<float>(**scales, "scales", {layers, blocks, size, shape.num_kv_heads, 1});
    pool_.key_scales = key_scales ? reinterpret_cast<float*>(opened(*key_scales)) : nullptr;
    pool_.value_scales = value_scales ? reinterpret_cast<float*>(opened(*value_scales)) : nullptr;
  }

  py::array_t<float> look_up(int matrix_idx, const py::array& row_ids) {
    const Matrix& matrix = stack_.matrix(matrix_idx);
    const int64_t count = row_ids.size();
    const int64_t* ids = data<int64_t>(row_ids, "row_ids", {count});
    check_range(ids, count, matrix.num_rows, "row_ids");
    py::array_t<float> out({count, static_cast<int64_t>(matrix.num_columns)});
    float* to = out.mutable_data();
    {
      py::gil_scoped_release released;
      stack_.look_up(matrix_idx, ids, static_cast<int>(count), to);
    }
    return out;
  }

  void run(py::array hidden, const py::array& positions, const py::array& slots, const py::array& first_block,
           const py::array& block_ids) {
    const int64_t rows = positions.size(), num_ids = block_ids.size();
    const PoolShape& pool = pool_.shape;
    require(pool_.keys != nullptr && rows > 0, "there is no pool, or no row");
    data<float>(hidden, "hidden", {rows, stack_.shape().hidden});
    const Step step{static_cast<int>(rows), data<int64_t>(positions, "positions", {rows}),
                    data<int64_t>(slots, "slots", {rows}), data<int64_t>(first_block, "first_block", {rows}),
                    data<int64_t>(block_ids, "block_ids", {num_ids})};
    check_range(step.positions, rows, num_positions_, "positions");
    check_range(step.slots, rows, static_cast<int64_t>(pool.num_blocks) * pool.block_size, "slots");
    check_range(step.block_ids, num_ids, pool.num_blocks, "block_ids");
    check_range(step.first_block, rows, num_ids, "first_block");
    for (int64_t i = 0; i < rows; ++i)
      require(step.first_block[i] + step.positions[i] / pool.block_size < num_ids, "a block table ends before its row");
    float* values = static_cast<float*>(hidden.mutable_data());
    py::gil_scoped_release released;
    stack_.run(values, step, pool_);
  }

  void time_phases(bool on) { stack_.time_phases(on); }

  std::map<std::string, double> phase_seconds() const {
    std::map<std::string, double> out;
    for (int i = 0; i < kNumPhases; ++i) out[kPhaseNames[i]] = stack_.clock().seconds()[i];
    return out;
  }

  py::array_t<float> project(int matrix_idx, const py::array& rows, const py::array& norm) {
    const Matrix& matrix = stack_.matrix(matrix_idx);
    const int64_t count = rows.ndim() == 2 ? rows.shape(0) : 0, width = stack_.shape().hidden;
    require(count > 0, "there is no row");
    check_matrix(matrix_idx, "matrix", matrix.num_rows, width);
    const float* values = data<float>(rows, "rows", {count, width});
    const float* weight = data<float>(norm, "norm", {width});
    py::array_t<float> out({count, static_cast<int64_t>(matrix.num_rows)});
    float* to = out.mutable_data();
    py::gil_scoped_release released;
    stack_.project(matrix_idx, values, static_cast<int>(count), weight, to);
    return out;
  }

 private:
  static Shape checked(const Shape& shape) {
    require(shape.hidden > 0 && shape.ffn > 0 && shape.hidden % kFloats == 0 && shape.ffn % kFloats == 0,
            "hidden or ffn is not a multiple of 16");
    require(shape.num_kv_heads > 0 && shape.num_heads > 0 && shape.num_heads % shape.num_kv_heads == 0,
            "num_heads is not a multiple of num_kv_heads");
    require(shape.head_dim > 0 && shape.head_dim % kPanel == 0 && shape.head_dim <= kMaxHeadDim,
            "head_dim is not a multiple of 32 up to 256");
    return shape;
  }

  void check_matrix(int matrix_idx, const char* name, int64_t rows, int64_t columns) const {
    const Matrix& matrix = stack_.matrix(matrix_idx);
    require(matrix.num_rows == rows && matrix.num_columns == columns,
            std::string(name) + " is not of shape (" + std::to_string(rows) + ", " + std::to_string(columns) + ")");
  }

  const float* norm(const Optional& weight, int64_t size) {
    if (!weight) return nullptr;
    keep(*weight);
    return data<float>(*weight, "norm", {size});
  }

  // Memory to read and write, on large pages where it has not been touched yet.
  char* opened(py::array& array) {
    keep(array);
    char* begin = static_cast<char*>(array.mutable_data());
    constexpr uintptr_t kPage = 2 << 20;
    const uintptr_t from = (reinterpret_cast<uintptr_t>(begin) + kPage - 1) / kPage * kPage;
    const uintptr_t to = (reinterpret_cast<uintptr_t>(begin) + array.nbytes()) / kPage * kPage;
    if (to > from) madvise(reinterpret_cast<void*>(from), to - from, MADV_HUGEPAGE);
    return begin;
  }

  void keep(const py::array& array) { kept_.push_back(array); }

  Stack stack_;
  Pool pool_{};
  int64_t num_positions_ = 0;
  std::vector<py::array> kept_;
};

}  // namespace tokenmill

PYBIND11_MODULE(TOKENMILL_MODULE, m) {
  using tokenmill::Door;
  using py::arg;
  // Its own in each build: a process may have loaded several.
  py::class_<Door>(m, "Stack", py::module_local())
      .def(py::init<int, int, int, int, int, float, float, float, bool, int>(), py::kw_only(), arg("hidden"), arg("ffn"),
           arg("num_heads"), arg("num_kv_heads"), arg("head_dim"), arg("eps"), arg("attention_scale"),
           arg("score_softcap"), arg("is_gelu"), arg("num_threads"))
      .def("add_matrix", &Door::add_matrix, arg("weight"), arg("scales"), arg("biases"), arg("is_precise"),
           arg("is_paired"))
      .def("add_int4", &Door::add_int4, py::kw_only(), arg("packed"), arg("steps"), arg("bases"), arg("scales"),
           arg("biases"), arg("is_precise"), arg("is_paired"))
      .def("add_rope", &Door::add_rope, arg("cos"), arg("sin"))
      .def("add_layer", &Door::add_layer, py::kw_only(), arg("qkv"), arg("attention_out"), arg("gate_up"), arg("down"),
           arg("rope"), arg("window"), arg("attention_norm"), arg("mlp_norm"), arg("q_norm"), arg("k_norm"),
           arg("after_attention_norm"), arg("after_mlp_norm"))
      .def("use_pool", &Door::use_pool, arg("keys"), arg("values"), arg("key_scales"), arg("value_scales"))
      .def("look_up", &Door::look_up, arg("matrix_idx"), arg("row_ids"))
      .def("run", &Door::run, py::kw_only(), arg("hidden"), arg("positions"), arg("slots"), arg("first_block"),
           arg("block_ids"))
      .def("time_phases", &Door::time_phases, arg("on"))
      .def("phase_seconds", &Door::phase_seconds)
      .def("project", &Door::project, arg("matrix_idx"), arg("rows"), arg("norm"));
}
