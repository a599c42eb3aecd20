"""Real bugs, made again (spec/evidence/museum.md)."""
