"""A pod that has lost its controller is adopted by nobody.

Of two ReplicationControllers with one selector one is deleted and its pods are orphaned. The other
ought to adopt them, but a pod whose controller reference goes, and whose labels stay, woke nobody.
The change listens to labels alone. An owner does not hear of what changes its claim (OWN-7).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.owners import dependent_keys

EXHIBIT = Exhibit(
    title="Nobody hears that a pod has lost its controller",
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
