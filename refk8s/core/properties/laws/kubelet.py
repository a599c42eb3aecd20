"""Laws of the containers of nodes. Rules KUBELET-2, KUBELET-4, KUBELET-16, KUBELET-30, KUBELET-32,
KUBELET-42, KUBELET-95 (spec/kubelet.md)."""

from collections.abc import Iterable

from refk8s.core.actions import Action, Operate
from refk8s.core.api.resources import CONFIG_MAPS, PODS
from refk8s.core.cluster.state import Cluster
from refk8s.core.ports import CreateContainer
from refk8s.core.properties.law import (
    NODE_USER,
    Arrived,
    Law,
    listed,
    objects,
    of_two_versions,
    runs_still,
)
from refk8s.core.properties.predicates.kubelet import (
    kubelet_4_one_sandbox_one_attempt,
    kubelet_16_restart_count_never_decreases,
    kubelet_30_status_reports_what_runs,
    kubelet_42_only_pods_of_the_api,
)


def one_sandbox_one_attempt(
    before: Cluster, action: Action, after: Cluster
) -> Iterable[str] | None:
    """KUBELET-2 and KUBELET-4, for a step in which a runtime did something."""
    assert isinstance(action, Operate)
    found = None if before.worlds is after.worlds else listed(after.worlds[action.operation[0]])
    return kubelet_4_one_sandbox_one_attempt(found) if found is not None else None


def objects_are_at_least_as_new_as_the_pod(
    before: Cluster, action: Action, after: Cluster
) -> Iterable[str] | None:
    """KUBELET-95: a variable from a ConfigMap has a value that was stored when the pod was created,
    or later."""
    if before.operations is after.operations:
        return None
    found: list[str] | None = None
    for channel in sorted(after.operations):
        operation = after.operations[channel].operation
        if channel in before.operations or not isinstance(operation, CreateContainer):
            continue
        config = operation.config
        record = after.history.get(f"{PODS.prefix}{config.namespace}/{config.pod_name}")
        if record is None or record.value.metadata.uid != config.pod_uid:
            continue  # It was removed meanwhile.
        for entry in next(
            (c.env or () for c in record.value.spec.containers if c.name == config.name), ()
        ):
            reference = (
                entry.value_from.config_map_key_ref if entry.value_from is not None else None
            )
            if reference is None or record.create_revision <= after.history.compacted:
                continue
            key = f"{CONFIG_MAPS.prefix}{config.namespace}/{reference.name}"
            since = record.create_revision
            there = [
                after.history.get(key, at=since),
                *[c.record for c in after.history.changes(key, since) if c.key == key],
            ]
            values = [
                (r.value.data or {}).get(reference.key) if r is not None else None for r in there
            ]
            value = dict(config.env).get(entry.name)
            wrong = [
                f"{entry.name} of pod {config.pod_name} is {value}, "
                f"not one of {values} since the pod's creation"
            ]
            found = (found or []) + ([] if value in values else wrong)
    return found


def removed_when_nothing_runs(
    arrived: Arrived, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """KUBELET-32: a pod is removed from the API after its last container has ended."""
    change = arrived.target
    if (
        arrived.request.verb != "delete"
        or change is None
        or change.previous is None
        or change.record is not None
    ):
        return None
    pod = change.previous.value
    return runs_still(before, pod, "was removed")


def no_container_outlives_its_pod(cluster: Cluster) -> Iterable[str] | None:
    """KUBELET-42: no container outlives its pod."""
    known = [pod.metadata.uid for pod in objects(cluster, PODS.prefix)]
    runtimes = [
        runtime
        for name in sorted(cluster.worlds)
        if (runtime := listed(cluster.worlds[name])) is not None
    ]
    return [
        words for runtime in runtimes for words in kubelet_42_only_pods_of_the_api(runtime, known)
    ]


def status_reports_what_runs(cluster: Cluster) -> Iterable[str] | None:
    """KUBELET-30, for every pod on a node whose runtime answers."""
    runtimes = {
        cluster.worlds[name].node.hostname: listed(cluster.worlds[name])
        for name in sorted(cluster.worlds)
    }
    pods = [pod for pod in objects(cluster, PODS.prefix) if pod.spec.node_name in runtimes]
    found = [
        (pod, runtime) for pod in pods if (runtime := runtimes[pod.spec.node_name]) is not None
    ]
    return (
        [
            words
            for pod, runtime in found
            for words in kubelet_30_status_reports_what_runs(pod, runtime)
        ]
        if found
        else None
    )


OF_CHANGES = (
    Law("KUBELET-16", of_two_versions(kubelet_16_restart_count_never_decreases), PODS.prefix),
)
OF_REQUESTS = (Law("KUBELET-32", removed_when_nothing_runs, NODE_USER),)
OF_STEPS = (
    Law("KUBELET-4", one_sandbox_one_attempt, actions=(Operate,)),
    Law("KUBELET-95", objects_are_at_least_as_new_as_the_pod),
)
OF_REST = (
    Law("KUBELET-42", no_container_outlives_its_pod),
    Law("KUBELET-30", status_reports_what_runs),
)
