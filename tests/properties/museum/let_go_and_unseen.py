"""A pod without a controller stays without one.

One of two ReplicationControllers with the same selector is deleted with the policy Orphan. The
other should adopt the pods. But a change that removed only the controller reference, and no label,
did not make it due. The change compares labels only. An owner is not reconciled after a change of
its claim (OWN-7).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.owners import dependent_keys

EXHIBIT = Exhibit(
    title="A pod that loses its controller is not adopted",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=32829,
    said="RC/RS manager should check if pod's controllerRef gets removed",
    rule="OWN-7",
    changes=(
        Change(
            dependent_keys,
            "if new is not None and after is None and (old is None or before is not None or old.metadata.labels != new.metadata.labels):",
            "if new is not None and after is None and (old is None or old.metadata.labels != new.metadata.labels):",
        ),
    ),
    finder=Property("test_lessons.test_own_7_who_loses_its_controller_is_found_by_the_next", 500),
)
