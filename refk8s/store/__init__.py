"""Engines: stores that run. Each answers as `refk8s.core.store.History` does; they differ in what
survives the process."""
