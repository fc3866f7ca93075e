// Where the time of a step goes, as its first thread sees it. Nothing is read off a clock that is off.
#pragma once

#include <array>
#include <chrono>

namespace tokenmill {

enum class Phase {
  kRows,  // norms, and rows made ready for a matrix
  kQkv,
  kPlace,  // positions, K and V into the pool
  kAttention,
  kAttentionOut,
  kGateUp,
  kDown,
  kOutput,  // the product behind all layers, as a rule with the vocabulary
  kWaiting,  // for other threads
};

constexpr const char* kPhaseNames[] = {"rows",          "qkv",     "place", "attention", "attention_out",
                                       "gate_up", "down",  "output",    "waiting"};
constexpr int kNumPhases = sizeof(kPhaseNames) / sizeof(kPhaseNames[0]);

class PhaseClock {
 public:
  void turn(bool on) {
    is_on_ = on;
    seconds_.fill(0);
  }

  bool is_on() const { return is_on_; }

  void start() {
    if (is_on_) last_ = Clock::now();
  }

  // What went by since the last call belongs to the phase.
  void lap(Phase phase) {
    if (!is_on_) return;
    const auto now = Clock::now();
    seconds_[static_cast<int>(phase)] += std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }

  const std::array<double, kNumPhases>& seconds() const { return seconds_; }

 private:
  using Clock = std::chrono::steady_clock;
  bool is_on_ = false;
  Clock::time_point last_;
  std::array<double, kNumPhases> seconds_{};
};

}  // namespace tokenmill
