"""A ReplicaSet adopts the pods that it was to orphan.

The ReplicaSet is deleted with the policy Orphan. The garbage collector removes the owner
references. The ReplicaSet controller, whose cache does not show the deletion yet, sees pods without
an owner that match its selector, and adopts them. So they are deleted with the ReplicaSet. The
change omits the write by which the controller makes sure that the owner is not being deleted. A
deleted owner adopts pods (OWN-5).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.owners import claim_waves

EXHIBIT = Exhibit(
    title="A ReplicaSet that is being deleted adopts its orphans again",
    repository="kubernetes/kubernetes",
    kind="pull request",
    number=42938,
    said="GC: Fix re-adoption race when orphaning dependents.",
    rule="OWN-5",
    changes=(Change(claim_waves, "if claimed.adopt:", "if False:"),),
    finder=Property("test_own.test_own_5_an_owner_with_an_old_view_of_itself_adopts_nothing"),
)
