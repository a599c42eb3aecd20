"""Two partitions of a device that exclude each other are allocated.

Partitions of a device consume counters. When the scheduler computed what was left of a counter, it
counted only partitions that one claim held alone, and not those that several claims could share.
After the first such allocation another partition, for which nothing was left, was allocated. The
change forgets the shared ones in the same way (DRA-18).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.scheduler.devices import _Search

EXHIBIT = Exhibit(
    title="Two partitions of a device that exclude each other are allocated",
    repository="kubernetes/kubernetes",
    kind="pull request",
    number=139040,
    said="DRA: account for shared devices when rebuilding counters",
    rule="DRA-18",
    changes=(
        Change(
            _Search._left,
            "lambda device: taken.is_held(device) or bool(taken.shares(device))",
            "lambda device: taken.is_held(device)",
        ),
    ),
    finder=Property(
        "test_dra_shares.test_dra_6_dra_17_dra_18_shares_and_counters_are_allocated_as_by_one_who_tries_everything",
        300,
    ),
)
