"""A deleted claim stays if its pod went while the controller was stopped.

A claim in use was deleted, so its finalizer kept it. Then the controller stopped, and the pod ended
and was removed. The restarted controller looked only at claims that a pod named or that were not
being deleted, so the claim stayed for ever. The change leaves claims that are being deleted to the
changes of pods (DRA-13).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.resource_claim import _of_claim

EXHIBIT = Exhibit(
    title="A deleted claim stays if its pod went while the controller was stopped",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=132334,
    said="DRA resource claim controller: fails to clean up deleted ResourceClaims on startup",
    rule="DRA-13",
    changes=(
        Change(
            _of_claim,
            "return [OF_CLAIM + key_of(claim), *(OF_POD + key for key in sorted({*pods, *owners}))]",
            "return [*([] if claim.metadata.deletion_timestamp else [OF_CLAIM + key_of(claim)]), *(OF_POD + key for key in sorted({*pods, *owners}))]",
        ),
    ),
    finder=Property(
        "test_dra.test_dra_13_dra_14_a_deleted_claim_goes_although_the_controller_was_stopped"
    ),
)
