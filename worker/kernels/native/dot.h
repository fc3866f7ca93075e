// One step of many dot products: 4 bytes of a row, which are one float, two bf16 or four int8,
// times the same place of 16 columns.
#pragma once

#include <array>
#include <utility>

#include "vectors.h"

namespace tokenmill {

struct F32 {
  using X = float;
  using Sum = float;
  static constexpr int kPerStep = 1, kSums = kFloatSums;
  static FloatLanes none() { return no_floats(); }
  static FloatLanes dot(FloatLanes sums, IntLanes x, IntLanes w) { return dot_float(sums, x, w); }
};

struct Bf16 {
  using X = bf16;
  using Sum = float;
  static constexpr int kPerStep = 2, kSums = kPackedSums;
  static FloatLanes none() { return no_floats(); }
  static FloatLanes dot(FloatLanes sums, IntLanes x, IntLanes w) { return dot_bf16(sums, x, w); }
};

// Weights are codes + kCodeBias.
struct Int8 {
  using X = int8_t;
  using Sum = int32_t;
  static constexpr int kPerStep = 4, kSums = kPackedSums;
  static IntLanes none() { return no_ints(); }
  static IntLanes dot(IntLanes sums, IntLanes x, IntLanes w) { return dot_codes(sums, x, w); }
};

constexpr int kPanel = 32;           // columns that are computed together
constexpr int64_t kStepBytes = 128;  // of a panel
constexpr int kLine = 64;            // of the cache
constexpr int kMaxTile = kFloatSums / 2;

// Rows that are multiplied best together: their sums, of half a panel at least, stay in registers.
template <class T>
constexpr int kBestTile = T::kSums / 2;

// What to ask memory for while a tile is computed.
struct Ahead {
  const char* at;
  int64_t bytes_per_step;
};

// Columns [kFirst, kFirst + kParts * kLanes) of a tile.
template <class T, int MR, int kFirst, int kParts, bool kContinues, int kAheadLines>
__attribute__((always_inline)) inline void part_of_tile(const char* x, int64_t x_stride, const char* w, int num_steps, Ahead ahead,
                         typename T::Sum (*sums)[kPanel]) {
  decltype(T::none()) acc[MR][kParts];
#pragma GCC unroll 12
  for (int m = 0; m < MR; ++m)
#pragma GCC unroll 4
    for (int i = 0; i < kParts; ++i) acc[m][i] = kContinues ? lanes(sums[m] + kFirst + i * kLanes) : T::none();
  w += kFirst * 4;
  for (int s = 0; s < num_steps; ++s, x += 4, w += kStepBytes) {
    IntLanes ws[kParts];
#pragma GCC unroll 4
    for (int i = 0; i < kParts; ++i) ws[i] = lanes(w + i * kLanes * 4);
    if (kAheadLines > 0) _mm_prefetch(ahead.at, _MM_HINT_T0);
    if (kAheadLines > 1) _mm_prefetch(ahead.at + kLine, _MM_HINT_T0);
    if (kAheadLines > 0) ahead.at += ahead.bytes_per_step;
#pragma GCC unroll 12
    for (int m = 0; m < MR; ++m) {
      int32_t bytes;
      std::memcpy(&bytes, x + m * x_stride, 4);
      const IntLanes v = copies(bytes);
#pragma GCC unroll 4
      for (int i = 0; i < kParts; ++i) acc[m][i] = T::dot(acc[m][i], v, ws[i]);
    }
  }
#pragma GCC unroll 12
  for (int m = 0; m < MR; ++m)
#pragma GCC unroll 4
    for (int i = 0; i < kParts; ++i) store_lanes(sums[m] + kFirst + i * kLanes, acc[m][i]);
}

// sums[m] = row m of x times a panel, over num_steps. Each sum is made in the order of the steps,
// whatever else is computed beside it: so a row's bits depend on nothing but the row.
template <class T, int MR, bool kContinues, int kAheadLines>
inline void tile(const char* x, int64_t x_stride, const char* w, int num_steps, Ahead ahead,
                 typename T::Sum (*sums)[kPanel]) {
  constexpr int kParts = kPanel / kLanes, kHalf = kParts / 2;
  if constexpr (MR > kBestTile<T>) {
    constexpr int kFew = MR / 2;
    tile<T, kFew, kContinues, kAheadLines>(x, x_stride, w, num_steps, ahead, sums);
    tile<T, MR - kFew, kContinues, 0>(x + kFew * x_stride, x_stride, w, num_steps, ahead, sums + kFew);
  } else if constexpr (MR * kParts <= T::kSums) {
    part_of_tile<T, MR, 0, kParts, kContinues, kAheadLines>(x, x_stride, w, num_steps, ahead, sums);
  } else {
    // Each half asks for what it will read itself.
    part_of_tile<T, MR, 0, kHalf, kContinues, kAheadLines ? 1 : 0>(x, x_stride, w, num_steps, ahead, sums);
    ahead.at += kLine;
    part_of_tile<T, MR, kPanel / 2, kHalf, kContinues, kAheadLines / 2>(x, x_stride, w, num_steps, ahead, sums);
  }
}

// Tiles of 1 to kMaxTile rows: functions of their own, as inlined ones do not keep all sums in registers.
template <class T, bool kContinues, int kAheadLines>
inline void tile_of(int num_rows, const char* x, int64_t x_stride, const char* w, int num_steps, Ahead ahead,
                    typename T::Sum (*sums)[kPanel]) {
  static constexpr auto kTiles = []<int... kRows>(std::integer_sequence<int, kRows...>) {
    return std::array{&tile<T, kRows + 1, kContinues, kAheadLines>...};
  }(std::make_integer_sequence<int, kMaxTile>());
  kTiles[num_rows - 1](x, x_stride, w, num_steps, ahead, sums);
}

}  // namespace tokenmill
