"""JSON merge patch: objects are merged, null deletes, every other value replaces. Rule PATCH-7
(spec/patch.md). Source: RFC 7386."""

from typing import Any


def merge(target: Any, patch: Any) -> Any:
    """`target` after `patch`; both stay unchanged (PATCH-7). A list is replaced as a whole. A
    target that is not an object counts as an empty one."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged
