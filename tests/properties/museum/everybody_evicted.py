"""The control plane loses its network and evicts every pod there is.

All nodes went silent at once, because it was the node controller that could not be reached. It took
them for dead; as soon as anything went through again, every pod of the cluster was deleted. The
change evicts although no node is well (NODE-6).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.node_lifecycle import eviction_pause

EXHIBIT = Exhibit(
    title="Every node is taken for dead, and all pods are evicted",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=24597,
    said="NodeController shouldn't evict Pods when all Nodes are NotReady",
    rule="NODE-6",
    changes=(
        Change(
            eviction_pause,
            "if all(ready == 0 for nodes, ready in counts.values() if nodes):\n    return None",
            "",
        ),
    ),
    finder=Property("test_node.test_node_6_nobody_is_evicted_when_nobody_is_well"),
)
