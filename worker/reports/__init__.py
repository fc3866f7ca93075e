"""What a worker tells of itself: heartbeats, K/V events, metrics, spans."""
