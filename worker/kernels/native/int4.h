// Four bits a weight on top of int8: code = clamp(base + step * four bits), unpacked panel by panel
// just before it is multiplied, so that one integer kernel computes both formats.
#pragma once

#include "matrix.h"

namespace tokenmill {

constexpr int kGroup = 32;                  // columns of a row that share a step and a base
constexpr int64_t kGroupBytes = 2 * kPanel + kGroup / 8 * kStepBytes;

// As it comes, row-major: byte i of a group holds column i in its low half and i + 16 in its high half.
struct Int4Source {
  const uint8_t *packed, *steps;
  const int8_t* bases;
};

// A panel's group: 32 steps, 32 bases + 128, then 4 times 128 bytes: two steps of the product, the
// first in the low halves.
inline void pack_int4(const Int4Source& from, const Matrix& matrix, bool is_paired, char* panels) {
  const int num_groups = matrix.num_columns / kGroup;
  std::memset(panels, 0, matrix.num_panels() * matrix.panel_bytes());
  for (int row = 0; row < matrix.num_rows; ++row) {
    const int place = place_of(row, matrix.num_rows, is_paired), lane = place % kPanel;
    for (int g = 0; g < num_groups; ++g) {
      const int64_t at = static_cast<int64_t>(row) * num_groups + g;
      auto* to = reinterpret_cast<uint8_t*>(panels + place / kPanel * matrix.panel_bytes() + g * kGroupBytes);
      to[lane] = from.steps[at];
      to[kPanel + lane] = static_cast<uint8_t>(from.bases[at] + 128);
      for (int column = 0; column < kGroup; ++column) {
        const int byte = from.packed[at * 16 + column % 16], code = column < 16 ? byte & 15 : byte >> 4;
        uint8_t& half = to[2 * kPanel + column / 8 * kStepBytes + lane * 4 + column % 4];
        half = static_cast<uint8_t>(half | (column % 8 < 4 ? code : code << 4));
      }
    }
  }
}

// One panel in the layout of int8.
inline void unpack_int4(const char* panel, int num_columns, char* out) {
  const IntLanes low = copies(0x0f0f0f0f), least = copies(0x01010101), even = copies(0x00ff00ff);
  for (int g = 0; g < num_columns / kGroup; ++g, panel += kGroupBytes, out += kGroup / 4 * kStepBytes)
    for (int lane = 0; lane < kPanel; lane += kLanes) {
      // Two bytes times a step in one 16-bit product: neither exceeds 255, so none carries over.
      const IntLanes step = bits_and(copies_of_bytes(panel + lane), even);
      const IntLanes base = copies_of_bytes(panel + kPanel + lane);
      auto put = [&](int s, IntLanes codes) {
        const IntLanes value = add_bytes(times_16bit(codes, step), base);
        store_lanes(out + s * kStepBytes + lane * 4, weights_of(larger_bytes(value, least)));
      };
      for (int i = 0; i < kGroup / 8; ++i) {
        const IntLanes both = lanes(panel + 2 * kPanel + i * kStepBytes + lane * 4);
        put(2 * i, bits_and(both, low));
        put(2 * i + 1, bits_and(shifted_by_4(both), low));
      }
    }
}

}  // namespace tokenmill
