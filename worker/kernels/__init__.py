"""Native CPU kernels: all layers of a Llama-like model in one call (AVX-512 with bf16 and VNNI, or AVX2)."""
