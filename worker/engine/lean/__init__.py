"""The lean path: Llama-like models straight from their weights, without transformers."""
