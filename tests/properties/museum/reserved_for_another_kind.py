"""A reservation for something else than a pod keeps those of pods.

`reservedFor` may refer to any object. If one reference was not to a pod, the controller removed no
reference any more, so a device stayed allocated after its pods had ended. The change keeps all
references then (DRA-13).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.resource_claim import ResourceClaimController

EXHIBIT = Exhibit(
    title="A reservation for something else than a pod keeps those of pods",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=136406,
    said="DRA: Non-pod references in ReservedFor prevents removal of pod references",
    rule="DRA-13",
    changes=(
        Change(
            ResourceClaimController._of_claim,
            'if one.resource != "pods" or one.api_group:',
            'if any(each.resource != "pods" for each in consumers(claim)):',
        ),
    ),
    finder=Property("test_dra.test_dra_13_only_references_to_pods_are_removed"),
)
