"""How much a caller may use: limits per key and tenant, shared exactly between gateways."""
