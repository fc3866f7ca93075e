"""What `tokenmill bench sessions` measures: chats that go on, wherever their turns land."""
