"""The worker's end of the K/V cache service: blocks fetched, offered, touched, and where."""
