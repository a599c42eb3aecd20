"""A controller counts pods of another namespace as its own.

Pods were indexed only by the uid of their controller. A pod that has this uid by mistake, in
another namespace or under another name, was counted, and could be deleted as surplus. The change
compares only the uid; this project had this bug until its museum was made. An owner acts on pods
that it does not control (OWN-1).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.owners import claim
from refk8s.core.controllers.replicas import known_replicas

EXHIBIT = Exhibit(
    title="A pod of another namespace with the owner's uid counts as owned",
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
        Change(
            known_replicas,
            "groups = view.fold(REPLICAS.name).get((metadata.namespace, metadata.name, metadata.uid), _NONE)",
            "groups = {group: count for owner, groups in view.fold(REPLICAS.name).items() for group, count in groups.items() if owner[2] == metadata.uid}",
        ),
    ),
    finder=Property(
        "test_own_place.test_own_1_a_pod_with_the_owners_uid_in_another_place_is_neither_counted_nor_touched"
    ),
)
