"""Who stands at the door: keys and tokens to callers, the same at both doors."""
