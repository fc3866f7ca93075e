"""Other engines beside ours in one run (`make bench-peers`): a new peer is one file, one entry."""
