"""Layer 3: what every process stands on: settings, logs, telemetry, RPC, bus, lifecycle."""
