"""The NetworkPolicy of a namespace is deleted before its pods.

The content of a namespace was deleted in no order. Pods that end slowly were open to all traffic
meanwhile, because their policy had been deleted first. The change deletes everything at once.
Objects are deleted while pods exist (NS-3).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.namespace import NamespaceController

EXHIBIT = Exhibit(
    title="A NetworkPolicy is deleted before the pods of its namespace",
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
