"""A ReplicaSet takes back the pods that it was made to let go.

It is deleted with its pods to be orphaned. The garbage collector takes the references off; the
ReplicaSet's controller, whose cache does not show the deletion yet, sees pods without an owner that
it selects, and adopts them; so they go with it after all. The change leaves out the write by which
the controller makes sure that the owner is alive. A deleted owner adopts (OWN-5).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.owners import claim_waves

EXHIBIT = Exhibit(
    title="Orphans are adopted again by the owner that is being deleted",
    repository="kubernetes/kubernetes",
    kind="pull request",
    number=42938,
    said="GC: Fix re-adoption race when orphaning dependents.",
    rule="OWN-5",
    changes=(Change(claim_waves, "if claimed.adopt:", "if False:"),),
    finder=Property("test_own.test_own_5_an_owner_with_an_old_view_of_itself_adopts_nothing"),
)
