"""Laws of a cluster at rest: what was wanted is there, what is told is so. Rules RS-1, DEP-19, KUBELET-30, KUBELET-42, WATCH-1."""

from collections.abc import Iterable

from refk8s.core.api.apps_v1 import Deployment, ReplicaSet
from refk8s.core.api.resources import DEPLOYMENTS, PODS, REPLICA_SETS, REPLICATION_CONTROLLERS
from refk8s.core.cluster import Cluster
from refk8s.core.controllers.revision import without_hash
from refk8s.core.properties.kubelet import is_told_as_it_is, nothing_is_left
from refk8s.core.properties.law import Law, objects
from refk8s.core.properties.views import listed
from refk8s.core.properties.watch import views_are_past_states
from refk8s.core.properties.workloads import dep_19_settled, rs_1_settled


def as_many_pods_as_wanted(cluster: Cluster) -> Iterable[str] | None:
    """RS-1, of every ReplicaSet and ReplicationController."""
    pods = objects(cluster, PODS.prefix)
    owners = objects(cluster, REPLICA_SETS.prefix) + objects(cluster, REPLICATION_CONTROLLERS.prefix)
    return [words for owner in owners for words in rs_1_settled(owner, pods)] if owners else None


def one_template_is_carried(cluster: Cluster) -> Iterable[str] | None:
    """DEP-19, of every Deployment that is not paused."""
    deployments = [deployment for deployment in objects(cluster, DEPLOYMENTS.prefix) if not deployment.spec.paused]
    replica_sets = objects(cluster, REPLICA_SETS.prefix)
    return [words for one in deployments for words in dep_19_settled(one, replica_sets, carries)] if deployments else None


def carries(deployment: Deployment, replica_set: ReplicaSet) -> bool:
    """Whether its pods are the ones that the deployment describes."""
    return without_hash(replica_set.spec.template) == without_hash(deployment.spec.template)


def nodes_run_what_is_stored(cluster: Cluster) -> Iterable[str] | None:
    """KUBELET-42: no container outlives its pod."""
    known = [pod.metadata.uid for pod in objects(cluster, PODS.prefix)]
    return [words for name in sorted(cluster.worlds) for words in nothing_is_left(listed(cluster.worlds[name]), known)]


def what_runs_is_told(cluster: Cluster) -> Iterable[str] | None:
    """KUBELET-30, of every pod on a node that is up."""
    runtimes = {cluster.worlds[name].node.hostname: listed(cluster.worlds[name]) for name in sorted(cluster.worlds)}
    pods = [pod for pod in objects(cluster, PODS.prefix) if pod.spec.node_name in runtimes]
    return [words for pod in pods for words in is_told_as_it_is(pod, runtimes[pod.spec.node_name])] if pods else None


LAWS = (
    Law("RS-1", as_many_pods_as_wanted),
    Law("DEP-19", one_template_is_carried),
    Law("KUBELET-42", nodes_run_what_is_stored),
    Law("KUBELET-30", what_runs_is_told),
    Law("WATCH-1", views_are_past_states),
)
