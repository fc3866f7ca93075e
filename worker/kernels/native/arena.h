// Memory of one packed matrix, on large pages where the system grants them: a step walks through all
// weights, and with small pages half of the time goes into finding them.
#pragma once

#include <sys/mman.h>

#include <new>

#include "matrix.h"

namespace tokenmill {

class Arena {
 public:
  // Copies a row-major weight into the order in which it is read.
  Arena(const void* weight, const Matrix& shape) {
    const int64_t vector = lanes_of(shape.precision) * bytes_of(shape.precision);
    const int64_t row = static_cast<int64_t>(shape.num_columns) * bytes_of(shape.precision);
    size_ = (shape.num_rows * row + kReadAhead + kPage - 1) / kPage * kPage;
    mapped_ = mmap(nullptr, size_ + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped_ == MAP_FAILED) throw std::bad_alloc();
    data_ = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(mapped_) + kPage - 1) / kPage * kPage);
    madvise(data_, size_, MADV_HUGEPAGE);
    char* to = data_;
    for (int64_t quad = 0; quad < shape.num_rows / 4; ++quad)
      for (int64_t i = 0; i < row; i += vector)
        for (int r = 0; r < 4; ++r, to += vector)
          std::memcpy(to, static_cast<const char*>(weight) + (quad * 4 + r) * row + i, vector);
  }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() { munmap(mapped_, size_ + kPage); }

  const void* data() const { return data_; }

 private:
  static constexpr int64_t kPage = 2 << 20, kReadAhead = 64 << 10;
  void* mapped_;
  char* data_;
  int64_t size_;
};

}  // namespace tokenmill
