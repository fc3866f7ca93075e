"""Layer 2: the only place where generated messages become core values and back."""
