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
  const __m512i low = _mm512_set1_epi8(15), copies = _mm512_set1_epi32(0x01010101), least = _mm512_set1_epi8(1);
  for (int g = 0; g < num_columns / kGroup; ++g, panel += kGroupBytes, out += kGroup / 4 * kStepBytes)
    for (int half = 0; half < 2; ++half) {
      auto of_lanes = [&](int from) {
        const auto* at = reinterpret_cast<const __m128i*>(panel + from + half * kFloats);
        return _mm512_mullo_epi32(_mm512_cvtepu8_epi32(_mm_loadu_si128(at)), copies);
      };
      // Two bytes times a step in one 16-bit product: neither exceeds 255, so none carries over.
      const __m512i step = _mm512_and_si512(of_lanes(0), _mm512_set1_epi16(255)), base = of_lanes(kPanel);
      auto put = [&](int s, __m512i codes) {
        const __m512i value = _mm512_adds_epu8(_mm512_mullo_epi16(codes, step), base);
        _mm512_storeu_si512(out + s * kStepBytes + half * 64, _mm512_max_epu8(value, least));
      };
      for (int i = 0; i < kGroup / 8; ++i) {
        const __m512i both = _mm512_loadu_si512(panel + 2 * kPanel + i * kStepBytes + half * 64);
        put(2 * i, _mm512_and_si512(both, low));
        put(2 * i + 1, _mm512_and_si512(_mm512_srli_epi16(both, 4), low));
      }
    }
}

}  // namespace tokenmill
