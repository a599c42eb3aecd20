"""A controller counts pods of another namespace as its own.

Pods were indexed by the uid of their controller alone. A pod that names that uid by mistake,
elsewhere or under another name, was counted, and could be deleted when there were too many. The
change looks at the uid only; this project had this bug until its museum was made. An owner acts on
what it does not control (OWN-1).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.owners import claim

EXHIBIT = Exhibit(
    title="A pod elsewhere that bears the owner's uid is taken for its own",
    repository="kubernetes/kubernetes",
    kind="pull request",
    number=134654,
    said="Include relevant dimensions in pod controller indexing",
    rule="OWN-1",
    changes=(
        Change(
            claim,
            "if reference.uid == uid and reference.controller and (reference.name, metadata.namespace) == (name, namespace):",
            "if reference.uid == uid and reference.controller:",
        ),
    ),
    finder=Property(
        "test_own_place.test_own_1_a_pod_with_the_owners_uid_in_another_place_is_neither_counted_nor_touched"
    ),
)
