"""Objects, views and clusters for the properties of controllers that own things."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import runs
from hypothesis import strategies as st

from refk8s.core.api.apps_v1 import (
    DaemonSet,
    DaemonSetSpec,
    DaemonSetUpdateStrategy,
    Deployment,
    DeploymentSpec,
    DeploymentStrategy,
    ReplicaSet,
    ReplicaSetSpec,
    RollingUpdateDaemonSet,
    RollingUpdateDeployment,
    RollingUpdateStatefulSetStrategy,
    StatefulSet,
    StatefulSetSpec,
    StatefulSetUpdateStrategy,
)
from refk8s.core.api.core_v1 import (
    Container,
    Namespace,
    Node,
    NodeSpec,
    PersistentVolumeClaim,
    PersistentVolumeClaimSpec,
    Pod,
    PodCondition,
    PodSpec,
    PodStatus,
    PodTemplateSpec,
    VolumeResourceRequirements,
)
from refk8s.core.api.meta_v1 import DeleteOptions, LabelSelector, ObjectMeta, OwnerReference
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import PODS, Resource, by_kind
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.state import Cluster, begin
from refk8s.core.cluster.step import start_all, submit
from refk8s.core.context import SECOND, timestamp
from refk8s.core.controllers.deployment import DeploymentReconciler
from refk8s.core.controllers.replica_set import ReplicaSetReconciler
from refk8s.core.controllers.replication_controller import ReplicationControllerReconciler
from refk8s.core.loop.loop import Loop
from refk8s.core.loop.plan import Local, Plan
from refk8s.core.loop.reconciler import Reconciler
from refk8s.core.loop.view import View, Viewer, controller_of, key_of
from refk8s.core.properties.law import Law

NOW = 1_790_000_000 * SECOND
LABELS = {"app": "web"}
NO_MEMORY = Local()


# --- objects --------------------------------------------------------------------------------------


def ago(seconds: int) -> str:
    return timestamp(NOW - seconds * SECOND)


def template(version: str = "1", node: str = "", **metadata: Any) -> PodTemplateSpec:
    spec = PodSpec(
        containers=(Container(name="c", image=f"app:{version}"),),
        node_name=node or None,
        termination_grace_period_seconds=0,
    )
    return PodTemplateSpec(metadata=ObjectMeta(labels=LABELS, **metadata), spec=spec)


def replica_set(name: str = "web", replicas: int = 3, **parts: Any) -> ReplicaSet:
    metadata = ObjectMeta(
        name=name,
        namespace="default",
        uid=f"uid-{name}",
        generation=1,
        labels=LABELS,
        creation_timestamp=ago(100),
    )
    spec = ReplicaSetSpec(
        replicas=replicas, selector=LabelSelector(match_labels=LABELS), template=template()
    )
    return change(ReplicaSet(metadata=metadata, spec=spec), **parts)


def stateful_set(
    name: str = "web",
    replicas: int = 3,
    claims: Sequence[str] = (),
    partition: int = 0,
    max_unavailable: int | str | None = None,
    **parts: Any,
) -> StatefulSet:
    """An OrderedReady set with a rolling update, and claim templates of these names."""
    metadata = ObjectMeta(
        name=name,
        namespace="default",
        uid=f"uid-{name}",
        generation=1,
        creation_timestamp=ago(100),
    )
    rolling = RollingUpdateStatefulSetStrategy(partition=partition, max_unavailable=max_unavailable)
    spec = StatefulSetSpec(
        replicas=replicas,
        selector=LabelSelector(match_labels=LABELS),
        template=template(),
        service_name="web",
        pod_management_policy="OrderedReady",
        update_strategy=StatefulSetUpdateStrategy(type="RollingUpdate", rolling_update=rolling),
        revision_history_limit=10,
        volume_claim_templates=tuple(
            PersistentVolumeClaim(
                metadata=ObjectMeta(name=each),
                spec=PersistentVolumeClaimSpec(
                    access_modes=("ReadWriteOnce",),
                    resources=VolumeResourceRequirements(requests={"storage": "1Gi"}),
                ),
            )
            for each in claims
        )
        or None,
    )
    return change(StatefulSet(metadata=metadata, spec=spec), **parts)


def daemon_set(
    name: str = "agent",
    max_unavailable: int | str | None = 1,
    max_surge: int | str | None = None,
    **parts: Any,
) -> DaemonSet:
    """A set with a rolling update."""
    metadata = ObjectMeta(
        name=name,
        namespace="default",
        uid=f"uid-{name}",
        generation=1,
        creation_timestamp=ago(100),
    )
    rolling = RollingUpdateDaemonSet(max_unavailable=max_unavailable, max_surge=max_surge)
    spec = DaemonSetSpec(
        selector=LabelSelector(match_labels=LABELS),
        template=template(),
        update_strategy=DaemonSetUpdateStrategy(type="RollingUpdate", rolling_update=rolling),
        revision_history_limit=10,
    )
    return change(DaemonSet(metadata=metadata, spec=spec), **parts)


def node(name: str, **parts: Any) -> Node:
    """A Node without taints."""
    metadata = ObjectMeta(name=name, uid=f"uid-{name}", labels={"kubernetes.io/hostname": name})
    return change(Node(metadata=metadata, spec=NodeSpec()), **parts)


def deployment(
    name: str = "web",
    replicas: int = 3,
    surge: int | str = "25%",
    unavailable: int | str = "25%",
    **parts: Any,
) -> Deployment:
    metadata = ObjectMeta(
        name=name, namespace="default", uid=f"uid-{name}", generation=1, creation_timestamp=ago(100)
    )
    strategy = DeploymentStrategy(
        type="RollingUpdate",
        rolling_update=RollingUpdateDeployment(max_surge=surge, max_unavailable=unavailable),
    )
    spec = DeploymentSpec(
        replicas=replicas,
        selector=LabelSelector(match_labels=LABELS),
        strategy=strategy,
        template=template(),
        revision_history_limit=10,
        progress_deadline_seconds=600,
    )
    return change(Deployment(metadata=metadata, spec=spec), **parts)


def pod(name: str, owner: Any = None, ready: bool = False, **parts: Any) -> Pod:
    metadata = ObjectMeta(
        name=name, namespace="default", uid=f"uid-{name}", labels=LABELS, creation_timestamp=ago(50)
    )
    obj = Pod(
        metadata=metadata,
        spec=template().spec,
        status=PodStatus(phase="Running" if ready else "Pending"),
    )
    if owner is not None:
        obj = change(obj, owner_references=(reference_to(owner),))
    if ready:
        obj = change(
            obj,
            conditions=(PodCondition(type="Ready", status="True", last_transition_time=ago(30)),),
        )
    return change(obj, **parts)


def reference_to(owner: Any, controller: bool = True) -> OwnerReference:
    return OwnerReference(
        api_version=owner.api_version, kind=owner.kind, name=owner.metadata.name, uid=owner.metadata.uid,
        controller=controller or None, block_owner_deletion=controller or None,
    )  # fmt: skip


def change(obj: Any, **parts: Any) -> Any:
    """The object with these fields of its metadata, spec or status changed, wherever they
    belong."""
    for name, value in parts.items():
        for part in ("metadata", "spec", "status"):
            inner = getattr(obj, part)
            if name in inner.__struct_fields__:
                obj = msgspec.structs.replace(
                    obj, **{part: msgspec.structs.replace(inner, **{name: value})}
                )
                break
        else:
            raise AttributeError(name)
    return obj


def with_status(obj: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(obj, status=msgspec.structs.replace(obj.status, **fields))


# --- views ----------------------------------------------------------------------------------------


def view_of(reconciler: Reconciler, *objects: Any) -> View:
    """What the reconciler would see if these were all objects."""
    viewer = Viewer(
        [interest.resource for interest in reconciler.interests],
        reconciler.indexes,
        reconciler.folds,
    )
    view = viewer.empty()
    for interest in reconciler.interests:
        resource = interest.resource
        mine = [
            (key_of(obj), obj) for obj in objects if by_kind(obj.api_version, obj.kind) is resource
        ]
        view, _ = viewer.apply(view, resource, mine, 1)
    return view


def plan_for(
    reconciler: Reconciler, owner: Any, *others: Any, now: int = NOW, local: Local = NO_MEMORY
) -> Plan:
    return reconciler.reconcile(view_of(reconciler, owner, *others), key_of(owner), now, local)


def sent(
    plan: Plan, verb: str, resource: Resource | None = None, subresource: str = ""
) -> list[Request]:
    """The requests of this kind, in order."""
    requests = plan.requests
    return [
        r
        for r in requests
        if r.verb == verb
        and r.subresource == subresource
        and (resource is None or r.resource is resource)
    ]


# --- clusters -------------------------------------------------------------------------------------


def new_cluster(*reconcilers: Reconciler) -> Cluster:
    """A cluster with a namespace and one component that runs these (all three, where none is
    named), not started."""
    chosen = reconcilers or (
        DeploymentReconciler(),
        ReplicaSetReconciler(),
        ReplicationControllerReconciler(),
    )
    cluster = begin({"controllers": Loop("controllers", chosen)}, {}, b"seed", NOW)
    return create(cluster, Namespace(metadata=ObjectMeta(name="default")))


def ask(cluster: Cluster, request: Request) -> Cluster:
    """Somebody outside sends a request that must be accepted."""
    cluster, response = submit(cluster, request)
    assert response.ok, response.body
    return cluster


def create(cluster: Cluster, *objects: Any) -> Cluster:
    for obj in objects:
        resource = by_kind(obj.api_version, obj.kind)
        cluster = ask(
            cluster,
            Request(
                "create", resource, "default" if resource.namespaced else "", body=obj, user=ADMIN
            ),
        )
        if getattr(obj, "status", None):
            cluster = patch(
                cluster, resource, obj.metadata.name, {"status": wire(obj.status)}, "status"
            )
    return cluster


def wire(obj: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(obj))


def patch(
    cluster: Cluster, resource: Resource, name: str, document: Any, subresource: str = ""
) -> Cluster:
    body = Patch("application/merge-patch+json", document)
    namespace = "default" if resource.namespaced else ""
    return ask(
        cluster, Request("patch", resource, namespace, name, subresource, body=body, user=ADMIN)
    )


def remove(cluster: Cluster, resource: Resource, name: str, **options: Any) -> Cluster:
    namespace = "default" if resource.namespaced else ""
    return ask(
        cluster,
        Request("delete", resource, namespace, name, body=DeleteOptions(**options), user=ADMIN),
    )


def stored(cluster: Cluster, resource: Resource) -> list[Any]:
    return [record.value for record in cluster.history.list(resource.prefix).records]


def get(cluster: Cluster, resource: Resource, name: str) -> Any:
    return next((obj for obj in stored(cluster, resource) if obj.metadata.name == name), None)


def pods_of(cluster: Cluster, owner: Any) -> list[Any]:
    return [
        p
        for p in stored(cluster, PODS)
        if (r := controller_of(p)) is not None and r.uid == owner.metadata.uid
    ]


def nothing_wrong(before: Cluster, after: Cluster) -> Iterable[str]:
    return ()


def broken_by(laws: Sequence[Law], before: Cluster, after: Cluster) -> Iterable[str]:
    """What these laws of changes say of the last commit."""
    if after.last_commit is before.last_commit or after.last_commit is None:
        return
    for law in laws:
        for written in after.last_commit.changes:
            if written.key.startswith(law.prefix):
                yield from law.check(written, before, after) or ()


def settle(cluster: Cluster, check: runs.Check = nothing_wrong, seconds_max: int = 5) -> Cluster:
    return runs.settle(cluster, check, seconds_max=seconds_max)


def started(*objects: Any, reconcilers: Sequence[Reconciler] = ()) -> Cluster:
    """A quiet cluster that began with these objects."""
    return settle(start_all(create(new_cluster(*reconcilers), *objects)))


# --- nature: what pods do by themselves -----------------------------------------------------------


def make_ready(cluster: Cluster, name: str, ready: bool = True) -> Cluster:
    """What a kubelet would report."""
    condition = {
        "type": "Ready",
        "status": "True" if ready else "False",
        "lastTransitionTime": timestamp(cluster.now),
    }
    return patch(
        cluster, PODS, name, {"status": {"phase": "Running", "conditions": [condition]}}, "status"
    )


def settle_with_nodes(cluster: Cluster, seconds_max: int) -> Cluster:
    """Settle, with nodes that start what is pending and remove what is being deleted."""
    for _ in range(40):
        cluster = settle(cluster, seconds_max=seconds_max)
        waiting = [one for one in stored(cluster, PODS) if not _runs_and_stays(one)]
        for one in waiting:
            if one.metadata.deletion_timestamp is not None:
                cluster = remove(cluster, PODS, one.metadata.name, grace_period_seconds=0)
            else:
                cluster = make_ready(cluster, one.metadata.name)
        if not waiting:
            break
    return cluster


def _runs_and_stays(one: Any) -> bool:
    conditions = one.status.conditions or ()
    is_ready = any(c.type == "Ready" and c.status == "True" for c in conditions)
    return is_ready and one.status.phase == "Running" and one.metadata.deletion_timestamp is None


def nature(cluster: Cluster, which: int, kinds: Sequence[str]) -> Cluster:
    """One pod, chosen by number, does one of these: "ready", "unready", "finish", "die" (is
    deleted), "vanish" (its node lets go)."""
    options = []
    for pod in stored(cluster, PODS):
        name, is_dying = pod.metadata.name, pod.metadata.deletion_timestamp is not None
        is_ready = any(
            c.type == "Ready" and c.status == "True" for c in pod.status.conditions or ()
        )
        if is_dying:
            options.append((name, "vanish"))
        elif pod.status.phase not in ("Failed", "Succeeded"):
            options += [(name, "unready" if is_ready else "ready"), (name, "finish"), (name, "die")]
    options = [option for option in options if option[1] in kinds]
    if not options:
        return cluster
    name, kind = options[which % len(options)]
    match kind:
        case "ready" | "unready":
            return make_ready(cluster, name, kind == "ready")
        case "finish":
            return patch(cluster, PODS, name, {"status": {"phase": "Failed"}}, "status")
        case "die":
            return remove(cluster, PODS, name)
        case _:
            return remove(cluster, PODS, name, grace_period_seconds=0)


def live(
    cluster: Cluster,
    drawn: Sequence[tuple[int, int]],
    check: runs.Check,
    kinds: Sequence[str],
    faults: Sequence[str] = (),
    users: Sequence[Any] = (),
) -> Cluster:
    """A run in which components act, pods live and users want something else, each in an order that
    was drawn.

    Of twelve kinds of choice five are the components', three nature's, two the users', two faults.
    """
    for kind, which in drawn:
        if kind >= 10:
            cluster = runs.run(cluster, [(9, which)], check, faults)
        elif kind >= 8 and users:
            after = users[which % len(users)](cluster)
            wrong = list(check(cluster, after))
            assert not wrong, wrong[0]
            cluster = after
        elif kind >= 5:
            after = nature(cluster, which, kinds)
            wrong = list(check(cluster, after))
            assert not wrong, wrong[0]
            cluster = after
        else:
            cluster = runs.run(cluster, [(0, which)], check)
    return cluster


choices = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 2**16)), max_size=80)


def without_reasons(requests: Iterable[Request]) -> list[Request]:
    """The requests without their reasons; each must have one."""
    found = list(requests)
    assert all(isinstance(each.because, str) and each.because for each in found), found
    return [msgspec.structs.replace(each, because="") for each in found]
