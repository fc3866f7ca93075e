"""Native CPU kernels: all layers of a Llama-like model in one call, on AVX-512 or AVX2."""
