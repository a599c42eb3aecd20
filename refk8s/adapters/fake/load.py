"""The use of processor and memory of simulated containers: annotations of their pods set it. Rule
SHELL-11 (spec/shell.md)."""

from collections.abc import Mapping

from refk8s.core.api.quantity import QuantityError, parse

CPU, MEMORY = "refk8s/cpu-usage", "refk8s/memory-usage"
"""Annotations of a pod: quantities for each of its containers. With `.NAME` appended: for the
container of this name."""
NANOCORES_MAX = 10**15
BYTES_MAX = 1 << 60


def compute_load(annotations: Mapping[str, str], container: str) -> tuple[int, int] | None:
    """(nanocores, bytes) that the container uses at present; nothing without annotations. None if
    an annotation is not a quantity, is negative or is too large."""
    found = []
    for key, limit, nanos_per_unit in ((CPU, NANOCORES_MAX, 1), (MEMORY, BYTES_MAX, 10**9)):
        text = annotations.get(f"{key}.{container}", annotations.get(key, "0"))
        try:
            amount = -(-parse(text).nano // nanos_per_unit)
        except QuantityError:
            return None
        if not 0 <= amount <= limit:
            return None
        found.append(amount)
    return found[0], found[1]
