"""The whole cluster in virtual time: every component, real deciders, simulated runtimes, and every fault at any step.

A user deploys, scales, updates and deletes while components crash, watches are cut or compacted away, requests and answers are lost and
containers die. At each step what must never happen has not happened; when the faults stop, what was wanted is there, and then silence.
"""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from runs import checked, faults, settle

from refk8s.adapters.fake.world import make_world
from refk8s.core import assembly
from refk8s.core.actions import Disturb
from refk8s.core.api import codec, quantity
from refk8s.core.api.apps_v1 import Deployment
from refk8s.core.api.core_v1 import Service
from refk8s.core.api.meta_v1 import DeleteOptions
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import DEPLOYMENTS, ENDPOINT_SLICES, LEASES, NODES, PODS, REPLICA_SETS, SERVICES, by_kind
from refk8s.core.apiserver.admission.bootstrap import bootstrap_objects
from refk8s.core.cluster import Cluster, begin, enabled, start_all, step, submit
from refk8s.core.context import SECOND
from refk8s.core.controllers.pods import is_active, ready_condition
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.properties.watch import views_are_past_states, views_never_go_back

START = 1_790_000_000 * SECOND
NODE_NAMES = ("node-1", "node-2")


def new_cluster() -> Cluster:
    """Two nodes, all components, the first objects; settled."""
    machines = assembly.machines([(name, KubeletConfig()) for name in NODE_NAMES])
    worlds = {assembly.kubelet_name(name): make_world(name, i, cpu_milli=2_000) for i, name in enumerate(NODE_NAMES)}
    cluster = begin(machines, worlds, b"whole", START)
    for obj in bootstrap_objects(cluster.context(), "127.0.0.1", 6443):
        resource = by_kind(obj.api_version, obj.kind)
        cluster = ask(cluster, Request("create", resource, obj.metadata.namespace or "", obj.metadata.name, body=obj))
    return settle(start_all(cluster), laws, seconds_max=5)


def ask(cluster: Cluster, request: Request) -> Cluster:
    cluster, _ = submit(cluster, request)
    return cluster


def deployment(replicas: int, cpu: str, surge: int, unavailable: int) -> Deployment:
    return codec.from_tree(
        Deployment,
        {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {
                        "terminationGracePeriodSeconds": 2,
                        "containers": [{"name": "c", "image": "app:1", "resources": {"requests": {"cpu": cpu}}}],
                    },
                },
            },
        },
    )  # fmt: skip


SERVICE = codec.from_tree(
    Service,
    {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    },
)  # fmt: skip


def objects(cluster: Cluster, resource) -> list:
    return [record.value for record in cluster.history.list(resource.prefix).records]


def requested(pod) -> int:
    return sum(quantity.milli_value((c.resources.requests or {}).get("cpu", "0")) for c in pod.spec.containers)


def laws(before: Cluster, after: Cluster) -> Iterable[str]:
    """What no step may do."""
    yield from views_never_go_back(before, after)
    if after.last_commit is None:
        return
    for change in after.last_commit.changes:
        if change.key.startswith(PODS.prefix) and change.record is not None and change.previous is not None:
            old, new = change.previous.value, change.record.value
            if old.spec.node_name and old.spec.node_name != new.spec.node_name:
                yield f"pod {change.key} was bound to {old.spec.node_name} and then to {new.spec.node_name}"
            if old.status.phase in ("Succeeded", "Failed") and new.status.phase != old.status.phase:
                yield f"pod {change.key} went from {old.status.phase} to {new.status.phase}"
        if change.key.startswith(PODS.prefix):
            for name in NODE_NAMES:
                used = sum(
                    requested(p) for p in objects(after, PODS) if p.spec.node_name == name and p.status.phase not in ("Succeeded", "Failed")
                )
                if used > 2_000:
                    yield f"{name} has {used}m of 2000m CPU"
        if change.key.startswith(REPLICA_SETS.prefix) and change.record is not None and change.previous is not None:
            yield from rolling_bounds(after, change)


def rolling_bounds(cluster: Cluster, change) -> Iterable[str]:
    """A scale-up leaves the sizes of all replica sets together within replicas + maxSurge."""
    old, new = change.previous.value, change.record.value
    wanted = cluster.history.get("/apps/deployments/default/web")
    if wanted is None or (new.spec.replicas or 0) <= (old.spec.replicas or 0):
        return
    spec = wanted.value.spec
    total = sum(r.spec.replicas or 0 for r in objects(cluster, REPLICA_SETS) if r.metadata.deletion_timestamp is None)
    bound = max(spec.replicas + spec.strategy.rolling_update.max_surge, 0)
    largest = max(
        spec.replicas,
        *(int((r.metadata.annotations or {}).get("deployment.kubernetes.io/max-replicas", 0)) for r in objects(cluster, REPLICA_SETS)),
    )
    if total > max(bound, largest):
        yield f"replica sets ask for {total} pods, {bound} is the most"


def is_right(cluster: Cluster, replicas: int, image: str) -> None:
    """What was wanted is there, and nothing else."""
    pods = [pod for pod in objects(cluster, PODS) if pod.metadata.labels.get("app") == "web"]
    fits = min(replicas, 2 * (2_000 // max(requested(pods[0]), 1))) if pods else 0
    assert len(pods) == replicas and all(is_active(pod) for pod in pods), [(p.metadata.name, p.status.phase) for p in pods]
    assert sum(1 for pod in pods if ready_condition(pod)) == fits
    if fits == replicas:
        assert all(pod.spec.containers[0].image == image for pod in pods)
    slices = [s for s in objects(cluster, ENDPOINT_SLICES) if (s.metadata.labels or {}).get("kubernetes.io/service-name") == "web"]
    told = sorted(e.addresses[0] for s in slices for e in s.endpoints or () if e.conditions.ready)
    assert told == sorted(pod.status.pod_ip for pod in pods if ready_condition(pod))
    running = [c for w in cluster.worlds.values() for c in w.running() if c.name == "c"]
    assert len(running) == fits, f"{len(running)} containers run for {fits} pods"
    for name in NODE_NAMES:
        rules = [r for r in cluster.rules[f"proxy/{name}"].rules if r.port == 80]
        assert sorted(t.address for r in rules for t in r.targets) == told
    status = cluster.history.get("/apps/deployments/default/web").value.status
    assert (status.replicas or 0, status.ready_replicas or 0) == (replicas, fits)


acts = st.lists(
    st.one_of(
        st.tuples(st.just("go on"), st.integers(1, 40)),
        st.tuples(st.just("fault"), st.integers(0, 2**16)),
        st.tuples(st.just("scale"), st.integers(0, 3)),  # so that a surge always finds room
        st.tuples(st.just("update"), st.integers(2, 3)),
        st.tuples(st.just("delete pod"), st.integers(0, 5)),
        st.tuples(st.just("kill container"), st.integers(0, 5)),
    ),
    max_size=14,
)


ALLOWED = ["crash", "lose", "give up", "cut", "compact"]


@given(acts, st.integers(0, 3), st.sampled_from(["100m", "900m"]), st.sampled_from([(1, 0), (0, 1), (2, 1)]))
def test_whatever_fails_on_the_way_what_was_wanted_comes_true_and_then_there_is_silence(drawn, replicas, cpu, bounds):
    cluster = ask(NEW, Request("create", DEPLOYMENTS, "default", "web", body=deployment(replicas, cpu, *bounds)))
    cluster = ask(cluster, Request("create", SERVICES, "default", "web", body=SERVICE))
    image, count = "app:1", 0
    for what, which in drawn:
        if what == "go on":
            for n in range(which):
                actions = list(enabled(cluster))
                if not actions:
                    break
                cluster = checked(cluster, actions[(which * 7 + n * 13) % len(actions)], laws)
        elif what == "fault":
            found = faults(cluster, ALLOWED)
            if found:
                cluster = checked(cluster, found[which % len(found)], laws)
        elif what == "scale":
            replicas = which
            cluster = ask(cluster, Request("patch", DEPLOYMENTS, "default", "web", body=merge({"spec": {"replicas": replicas}})))
        elif what == "update":
            image = f"app:{which}"
            tree = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}
            cluster = ask(
                cluster, Request("patch", DEPLOYMENTS, "default", "web", body=Patch("application/strategic-merge-patch+json", tree))
            )
        elif what == "delete pod":
            pods = [p for p in objects(cluster, PODS) if p.metadata.namespace == "default"]
            if pods:
                cluster = ask(cluster, Request("delete", PODS, "default", pods[which % len(pods)].metadata.name, body=DeleteOptions()))
        else:
            name = assembly.kubelet_name(NODE_NAMES[which % 2])
            cluster = step(cluster, Disturb(name, "container dies", str(which)))
            count += 1
    assert not views_are_past_states(cluster)
    cluster = settle(cluster, laws, steps_max=20_000, seconds_max=60 + 60 * count)
    is_right(cluster, replicas, image)
    quiet = settle(cluster, laws, steps_max=20_000, seconds_max=60)
    written = [c for c in quiet.history.changes("/", cluster.history.revision) if not c.key.startswith((LEASES.prefix, NODES.prefix))]
    assert not written, f"not silent: {[c.key for c in written][:5]}"


def merge(tree: dict) -> Patch:
    return Patch("application/merge-patch+json", tree)


NEW = new_cluster()
