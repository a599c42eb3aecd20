"""Engines: implementations of the store. Each gives the same answers as
`refk8s.core.store.History`; they differ in what outlives the process."""
