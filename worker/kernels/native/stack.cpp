#include "stack.h"

namespace tokenmill {

int Stack::add_matrix(Matrix matrix, const char* weight, const float* scales, const float* biases, bool is_paired) {
  return add(std::move(matrix), scales, biases, is_paired,
             [&](const Matrix& shape, char* panels) { pack(weight, shape, is_paired, panels); });
}

int Stack::add_int4(Matrix matrix, const Int4Source& weight, const float* scales, const float* biases,
                    bool is_paired) {
  return add(std::move(matrix), scales, biases, is_paired,
             [&](const Matrix& shape, char* panels) { pack_int4(weight, shape, is_paired, panels); });
}

template <class Pack>
int Stack::add(Matrix matrix, const float* scales, const float* biases, bool is_paired, const Pack& pack_into) {
  const int padded = matrix.num_panels() * kPanel;
  auto placed = [&](const float* values) {
    std::vector<float> out(padded);
    for (int row = 0; row < matrix.num_rows; ++row) out[place_of(row, matrix.num_rows, is_paired)] = values[row];
    return out;
  };
  if (scales) matrix.scales = placed(scales);
  if (biases) matrix.biases = placed(biases);
  char* panels = arena_.allocate(matrix.num_panels() * matrix.panel_bytes());
  pack_into(matrix, panels);
  matrix.panels = panels;
  matrices_.push_back(std::move(matrix));
  return static_cast<int>(matrices_.size()) - 1;
}

int Stack::add_rope(const RopeTable& rope) {
  ropes_.push_back(rope);
  return static_cast<int>(ropes_.size()) - 1;
}

void Stack::look_up(int matrix_idx, const int64_t* row_ids, int num_ids, float* out) {
  const Matrix& matrix = matrices_[matrix_idx];
  threads_.run([&](int thread) {
    const Range share = share_of(num_ids, thread);
    for (int i = share.begin; i < share.end; ++i)
      for (int c = 0; c < matrix.num_columns; ++c)
        out[static_cast<int64_t>(i) * matrix.num_columns + c] = value_at(matrix, static_cast<int>(row_ids[i]), c);
  });
}

void Stack::project(int matrix_idx, const float* rows, int num_rows, const float* norm, float* out) {
  const Matrix& matrix = matrices_[matrix_idx];
  const int width = shape_.hidden, num_columns = matrix.num_rows;
  // Rows of a prompt that are asked for are few beside a vocabulary: never by rows.
  sharing_ = num_rows <= kFewRows ? Sharing::kCopies : Sharing::kColumns;
  reserve(to_matrix_, num_rows, width);
  grow(normed_, static_cast<size_t>(threads_.num_threads()) * width);
  clock_.start();
  threads_.run([&](int thread) {
    float* normed = normed_.data() + thread * width;
    const Rows ready = fill(to_matrix_, matrix, num_rows, {0, num_rows}, thread, [&](int row) {
      rms_norm(rows + static_cast<int64_t>(row) * width, norm, width, shape_.eps, normed);
      return normed;
    });
    multiply_share(matrix, ready, {0, num_rows}, thread, [&](int row, int panel, Floats left, Floats right) {
      const int column = panel * kPanel;
      float* to = out + static_cast<int64_t>(row) * num_columns + column;
      store_some(to, left, num_columns - column);
      if (num_columns - column > kFloats) store_some(to + kFloats, right, num_columns - column - kFloats);
    });
    lap(thread, Phase::kOutput);
  });
  clock_.lap(Phase::kWaiting);
}

}  // namespace tokenmill
