"""Which of several classes is the default. Rules ADM-22 (spec/admission.md), VOL-5
(spec/workloads/volume_binding.md)."""

from collections.abc import Iterable
from typing import Any


def default_class(classes: Iterable[Any], marks: tuple[str, ...]) -> str:
    """The newest class that one of these annotations marks as the default; of several of the same
    second the first by name; empty without one. O(classes)."""
    best: tuple[str, str] | None = None
    for one in classes:
        metadata = one.metadata
        annotations = metadata.annotations or {}
        if any(annotations.get(mark) == "true" for mark in marks):
            since, name = metadata.creation_timestamp or "", metadata.name or ""
            if best is None or since > best[0] or (since == best[0] and name < best[1]):
                best = (since, name)
    return best[1] if best is not None else ""
