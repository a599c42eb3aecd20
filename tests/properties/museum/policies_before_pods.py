"""The NetworkPolicy of a namespace goes before its pods.

A namespace's content was deleted in no order. Pods that take their time to end were open to
everybody meanwhile, as the policy that shut them off had gone first. The change deletes everything
at once. Something is deleted while there are pods (NS-3).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.namespace import NamespaceController

EXHIBIT = Exhibit(
    title="What protects the pods of a namespace is deleted before they are",
    repository="kubernetes/enhancements",
    kind="pull request",
    number=5095,
    said="[KEP 5080]Ordered Namespace Deletion",
    rule="NS-3",
    changes=(
        Change(
            NamespaceController.reconcile,
            "pods_first = tuple(entry for entry in remaining if entry[0] == PODS) or remaining  # NS-3",
            "pods_first = remaining",
        ),
    ),
    finder=Property("test_ns.test_ns_3_pods_go_first"),
)
