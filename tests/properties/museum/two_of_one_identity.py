"""Two pods of one identity run at the same time.

A node was cut off from the API server. The node controller removed its pods from the API at once,
although the node still ran them. The StatefulSet controller found that the pod of an ordinal was
missing, and created it on another node. So two processes wrote as the same member of a database.
The change evicts the pods of a lost node with a grace period of 0, which removes them from the API
(NODE-8, STS-15).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property, Simulation, Way
from refk8s.core.controllers.taint_eviction import _eviction

EXHIBIT = Exhibit(
    title="Two pods of one StatefulSet ordinal run at once",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=35145,
    said="Node controller shouldn't hard delete pods on partitioned nodes",
    rule="STS-15",
    changes=(Change(_eviction, "delete_pod(pod, because)", "delete_pod(pod, because, 0)"),),
    finder=Property(
        "test_sim_sets.test_sts_15_a_pod_of_a_lost_node_is_not_replaced_while_it_may_run"
    ),
    also=(Way("NODE-8", Simulation()),),
)
