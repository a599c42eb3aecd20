"""A controller crashes between the update of a node and those of its pods, which stay ready.

The controller first set a lost node to Unknown, and then its pods to not ready. If it crashed in
between, it found the node Unknown after its restart, had nothing to change, and did not update the
pods. Services continued to send traffic to the lost node. The change updates the pods only when the
node becomes Unknown; this project had this bug until its museum was made. A pod of a lost node
stays ready (NODE-2).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.node_lifecycle import NodeLifecycle

EXHIBIT = Exhibit(
    title="Pods of a lost node stay ready because the controller crashed",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=50067,
    said="Pod failed to evict while Controller-manager happened to crash or change leader during the pod eviction process",
    rule="NODE-2",
    changes=(
        Change(
            NodeLifecycle.reconcile,
            "pods = unready_pods(view, key) if _is_unknown(node) else ()",
            "pods = ()",
        ),
    ),
    finder=Property(
        "test_node_silence.test_node_2_no_pod_of_a_silent_node_stays_ready_whatever_crashes_on_the_way"
    ),
)
