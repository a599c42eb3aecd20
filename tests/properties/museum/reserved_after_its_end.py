"""A claim is reserved again and again for a pod that has ended.

A pod that had its node before its claim was reserved is reserved by the controller. The controller
did so for finished pods too, while its other half removed the reservations of finished pods, so a
claim that another pod used was written without end. The change forgets to ask whether the pod has
ended (DRA-13).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property, Simulation, Way
from refk8s.core.controllers.resource_claim import ResourceClaimController

EXHIBIT = Exhibit(
    title="A claim is reserved again and again for a pod that has ended",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=141274,
    said="[DRA] ResourceClaim controller can re-reserve terminal Pods",
    rule="DRA-13",
    changes=(
        Change(
            ResourceClaimController._of_pod,
            "if pod is None or pod.metadata.deletion_timestamp is not None or is_finished(pod):",
            "if pod is None or pod.metadata.deletion_timestamp is not None:",
        ),
    ),
    finder=Property("test_dra.test_dra_13_a_pod_that_has_ended_is_not_reserved_again"),
    also=(Way("SIM-4", Simulation(steps=2_500, manifests="device_manifests")),),
)
