"""ReplicationController: as many pods as asked. Rules RS-1 to RS-12
(spec/workloads/replica_set.md).

The same decision as for ReplicaSet; its selector is a plain map, and its status does not count pods
that are being deleted. Source: Kubernetes documentation, "ReplicationController". Left out:
nothing.
"""

from refk8s.core.api.core_v1 import ReplicationControllerCondition, ReplicationControllerStatus
from refk8s.core.api.meta_v1 import LabelSelector
from refk8s.core.api.resources import REPLICATION_CONTROLLERS
from refk8s.core.controllers.replica_set import Coat, ReplicaSetReconciler

REPLICATION_CONTROLLER = Coat(
    REPLICATION_CONTROLLERS,
    lambda obj: LabelSelector(match_labels=obj.spec.selector),
    ReplicationControllerStatus,
    ReplicationControllerCondition,
    counts_terminating=False,
)


class ReplicationControllerReconciler(ReplicaSetReconciler):
    """Decides one ReplicationController at a time."""

    name = component = "replication-controller"
    coat = REPLICATION_CONTROLLER
