// Memory of all packed matrices, on large pages where the system grants them: a step walks through
// all weights, and with small pages half of the time goes into finding them.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <new>
#include <vector>

namespace tokenmill {

class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() {
    for (const Slab& slab : slabs_) munmap(slab.mapped, slab.size);
  }

  // One after the other in large pieces, of which only what is written to takes memory.
  char* allocate(int64_t size) {
    size = (size + kLine - 1) / kLine * kLine;
    if (size + kReadAhead > room_) open(std::max(kSlab, size + kReadAhead));
    char* out = next_;
    next_ += size;
    room_ -= size;
    return out;
  }

 private:
  struct Slab {
    void* mapped;
    int64_t size;
  };

  void open(int64_t size) {
    size = (size + kPage - 1) / kPage * kPage;
    void* mapped = mmap(nullptr, size + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    slabs_.push_back({mapped, size + kPage});
    next_ = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(mapped) + kPage - 1) / kPage * kPage);
    room_ = size;
    madvise(next_, size, MADV_HUGEPAGE);
  }

  static constexpr int64_t kLine = 128, kPage = 2 << 20, kSlab = 256 << 20, kReadAhead = 64 << 10;
  std::vector<Slab> slabs_;
  char* next_ = nullptr;
  int64_t room_ = 0;
};

}  // namespace tokenmill
