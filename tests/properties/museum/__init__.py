"""Real bugs, made again (spec/museum.md)."""
