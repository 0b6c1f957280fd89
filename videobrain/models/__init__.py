"""Who thinks: the ChatModel protocol and its implementations."""
