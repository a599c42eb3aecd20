"""ReplicationController: as many pods as `spec.replicas`. Rules RS-1 to RS-12
(spec/workloads/replica_set.md).

It is reconciled like a ReplicaSet. Its selector is a plain map, and its status does not count pods
that are being deleted. Source: Kubernetes documentation, "ReplicationController". Left out:
nothing.
"""

from refk8s.core.api.core_v1 import ReplicationControllerCondition, ReplicationControllerStatus
from refk8s.core.api.meta_v1 import LabelSelector
from refk8s.core.api.resources import REPLICATION_CONTROLLERS
from refk8s.core.controllers.replica_set import ReplicaSetReconciler, Variant

REPLICATION_CONTROLLER = Variant(
    REPLICATION_CONTROLLERS,
    lambda obj: LabelSelector(match_labels=obj.spec.selector),
    ReplicationControllerStatus,
    ReplicationControllerCondition,
    counts_terminating=False,
)


class ReplicationControllerReconciler(ReplicaSetReconciler):
    """Reconciles one ReplicationController."""

    name = component = "replication-controller"
    variant = REPLICATION_CONTROLLER
