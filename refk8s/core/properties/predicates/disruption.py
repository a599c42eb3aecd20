"""Predicates of disruption budgets. Rule PDB-6 (spec/workloads/disruption.md).

change   a ready pod that is evicted, and its budget before and after
"""

from collections.abc import Iterator
from typing import Any


def pdb_6_takes_an_allowed_disruption(pod: Any, old: Any, new: Any) -> Iterator[str]:
    """The eviction of a ready pod takes one of the disruptions that its budget allowed."""
    allowed, left = old.status.disruptions_allowed, new.status.disruptions_allowed
    who = f"{pod.metadata.name} is evicted, and disruptionsAllowed of {old.metadata.name}"
    if allowed <= 0:
        yield f"{who} was {allowed}"
    elif left != allowed - 1:
        yield f"{who} was {allowed} and is {left}"
