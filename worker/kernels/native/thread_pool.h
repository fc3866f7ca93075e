// A few threads that run one function together, with a barrier that spins first.
//
// Not OpenMP: a step crosses some 300 barriers of a few microseconds of work each, and a runtime that
// spins for ever takes the machine from its neighbours while one that sleeps costs more than the work.
#pragma once

#include <immintrin.h>
#include <sched.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace tokenmill {

class ThreadPool {
 public:
  explicit ThreadPool(int num_threads) : num_threads_(num_threads) {
    for (int i = 1; i < num_threads; ++i) threads_.emplace_back([this, i] { serve(i); });
  }

  ~ThreadPool() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
      generation_.fetch_add(1);
    }
    wake_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  int num_threads() const { return num_threads_; }

  // Runs work(thread_idx) on all threads, the caller's included; returns when all are done.
  void run(const std::function<void(int)>& work) {
    work_ = &work;
    if (num_threads_ > 1) {
      {
        std::lock_guard<std::mutex> lock(mutex_);
        generation_.fetch_add(1, std::memory_order_release);
      }
      wake_.notify_all();
    }
    work(0);
    barrier();
  }

  // Every thread of the current run must call it.
  void barrier() {
    if (num_threads_ == 1) return;
    const unsigned phase = phase_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == num_threads_ - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      phase_.store(phase + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; phase_.load(std::memory_order_acquire) == phase; ++spins) {
      // On a busy machine the other thread may not be running at all: let it.
      if (spins < kSpins) _mm_pause(); else sched_yield();
    }
  }

 private:
  static constexpr int kSpins = 4000;

  void serve(int thread_idx) {
    unsigned seen = 0;
    for (;;) {
      // The next step of a busy engine comes within a millisecond: worth a short wait awake.
      for (int spins = 0; generation_.load(std::memory_order_acquire) == seen && spins < 20 * kSpins; ++spins)
        _mm_pause();
      if (generation_.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
      }
      seen = generation_.load(std::memory_order_acquire);
      if (stopping_) return;
      (*work_)(thread_idx);
      barrier();
    }
  }

  const int num_threads_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<unsigned> generation_{0};
  std::atomic<unsigned> phase_{0};
  std::atomic<int> arrived_{0};
  std::atomic<bool> stopping_{false};
  const std::function<void(int)>* work_ = nullptr;
};

}  // namespace tokenmill
