"""Why things are as they are: where a pod can run, and who wrote an object. Rules EXPLAIN-1 to
EXPLAIN-4 (spec/explain.md).

Pure functions of what an API server lists; `refk8s explain` prints them.
"""
