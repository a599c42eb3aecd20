"""The whole cluster in virtual time: every component, real deciders, simulated runtimes, and every
fault at any step.

A user deploys, scales, updates and deletes while components crash, watches are cut or compacted
away, requests and answers are lost and containers die. At each step what must never happen has not
happened; when the faults stop, what was wanted is there, and then silence.
"""

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import faults
from told import Life

from refk8s.checking import actions_file
from refk8s.checking.simulator.simulate import Setup, replay
from refk8s.core import components
from refk8s.core.actions import Disturb, Submit
from refk8s.core.api import codec, quantity
from refk8s.core.api.apps_v1 import Deployment
from refk8s.core.api.core_v1 import Service
from refk8s.core.api.meta_v1 import DeleteOptions
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import (
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    LEASES,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICES,
)
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.enabled import enabled
from refk8s.core.cluster.state import Cluster
from refk8s.core.pods.status import is_active, ready_condition
from refk8s.core.properties.laws.watch import views_are_past_states, views_never_go_back

NODE_NAMES = ("node-1", "node-2")


SETUP = Setup(seed=7, nodes=2, cpu_milli=2_000)


def new_life() -> Life:
    """Two nodes, all components, the first objects; settled."""
    life = Life(SETUP)
    life.settle(laws, steps_max=5_000, seconds_max=5)
    return life


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
    return sum(
        quantity.milli_value((c.resources.requests or {}).get("cpu", "0"))
        for c in pod.spec.containers
    )


def laws(before: Cluster, after: Cluster) -> Iterable[str]:
    """What no step may do."""
    yield from views_never_go_back(before, after)
    if after.last_commit is None:
        return
    for change in after.last_commit.changes:
        if (
            change.key.startswith(PODS.prefix)
            and change.record is not None
            and change.previous is not None
        ):
            old, new = change.previous.value, change.record.value
            if old.spec.node_name and old.spec.node_name != new.spec.node_name:
                yield (
                    f"pod {change.key} was bound to {old.spec.node_name} and then to "
                    f"{new.spec.node_name}"
                )
            if old.status.phase in ("Succeeded", "Failed") and new.status.phase != old.status.phase:
                yield f"pod {change.key} went from {old.status.phase} to {new.status.phase}"
        if change.key.startswith(PODS.prefix):
            for name in NODE_NAMES:
                used = sum(
                    requested(p)
                    for p in objects(after, PODS)
                    if p.spec.node_name == name and p.status.phase not in ("Succeeded", "Failed")
                )
                if used > 2_000:
                    yield f"{name} has {used}m of 2000m CPU"
        if (
            change.key.startswith(REPLICA_SETS.prefix)
            and change.record is not None
            and change.previous is not None
        ):
            yield from rolling_bounds(after, change)


def rolling_bounds(cluster: Cluster, change) -> Iterable[str]:
    """A scale-up leaves the sizes of all replica sets together within replicas + maxSurge."""
    old, new = change.previous.value, change.record.value
    wanted = cluster.history.get("/apps/deployments/default/web")
    if wanted is None or (new.spec.replicas or 0) <= (old.spec.replicas or 0):
        return
    spec = wanted.value.spec
    total = sum(
        r.spec.replicas or 0
        for r in objects(cluster, REPLICA_SETS)
        if r.metadata.deletion_timestamp is None
    )
    bound = max(spec.replicas + spec.strategy.rolling_update.max_surge, 0)
    largest = max(
        spec.replicas,
        *(
            int((r.metadata.annotations or {}).get("deployment.kubernetes.io/max-replicas", 0))
            for r in objects(cluster, REPLICA_SETS)
        ),
    )
    if total > max(bound, largest):
        yield f"replica sets ask for {total} pods, {bound} is the most"


def is_right(cluster: Cluster, replicas: int, image: str) -> None:
    """What was wanted is there, and nothing else."""
    pods = [pod for pod in objects(cluster, PODS) if pod.metadata.labels.get("app") == "web"]
    fits = min(replicas, 2 * (2_000 // max(requested(pods[0]), 1))) if pods else 0
    assert len(pods) == replicas and all(is_active(pod) for pod in pods), [
        (p.metadata.name, p.status.phase) for p in pods
    ]
    assert sum(1 for pod in pods if ready_condition(pod)) == fits
    if fits == replicas:
        assert all(pod.spec.containers[0].image == image for pod in pods)
    slices = [
        s
        for s in objects(cluster, ENDPOINT_SLICES)
        if (s.metadata.labels or {}).get("kubernetes.io/service-name") == "web"
    ]
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


@given(
    acts,
    st.integers(0, 3),
    st.sampled_from(["100m", "900m"]),
    st.sampled_from([(1, 0), (0, 1), (2, 1)]),
)
def test_whatever_fails_on_the_way_what_was_wanted_comes_true_and_then_there_is_silence(
    drawn, replicas, cpu, bounds
):
    life = NEW.fork()
    with life.told():
        live(life, drawn, replicas, cpu, bounds)


def live(life: Life, drawn, replicas: int, cpu: str, bounds: tuple[int, int]) -> None:
    """What the user and chance do, and what must have come of it."""

    def ask(request: Request) -> None:
        life.take(Submit(request), laws)

    ask(
        Request(
            "create",
            DEPLOYMENTS,
            "default",
            "web",
            body=deployment(replicas, cpu, *bounds),
            user=ADMIN,
        )
    )
    ask(Request("create", SERVICES, "default", "web", body=SERVICE, user=ADMIN))
    image, count = "app:1", 0
    for what, which in drawn:
        if what == "go on":
            for n in range(which):
                actions = list(enabled(life.cluster))
                if not actions:
                    break
                life.take(actions[(which * 7 + n * 13) % len(actions)], laws)
        elif what == "fault":
            found = faults(life.cluster, ALLOWED)
            if found:
                life.take(found[which % len(found)], laws)
        elif what == "scale":
            replicas = which
            ask(
                Request(
                    "patch",
                    DEPLOYMENTS,
                    "default",
                    "web",
                    body=merge({"spec": {"replicas": replicas}}),
                    user=ADMIN,
                )
            )
        elif what == "update":
            image = f"app:{which}"
            tree = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}
            ask(
                Request(
                    "patch",
                    DEPLOYMENTS,
                    "default",
                    "web",
                    body=Patch("application/strategic-merge-patch+json", tree),
                    user=ADMIN,
                )
            )
        elif what == "delete pod":
            pods = [p for p in objects(life.cluster, PODS) if p.metadata.namespace == "default"]
            if pods:
                ask(
                    Request(
                        "delete",
                        PODS,
                        "default",
                        pods[which % len(pods)].metadata.name,
                        body=DeleteOptions(),
                        user=ADMIN,
                    )
                )
        else:
            life.take(
                Disturb(
                    components.kubelet_name(NODE_NAMES[which % 2]), "container dies", str(which)
                ),
                laws,
            )
            count += 1
    assert not views_are_past_states(life.cluster)
    life.settle(laws, steps_max=20_000, seconds_max=60 + 60 * count)
    is_right(life.cluster, replicas, image)
    revision = life.cluster.history.revision
    life.settle(laws, steps_max=20_000, seconds_max=60)
    written = [
        c
        for c in life.cluster.history.changes("/", revision)
        if not c.key.startswith((LEASES.prefix, NODES.prefix))
    ]
    assert not written, f"not silent: {[c.key for c in written][:5]}"


def test_sim_10_a_property_of_the_whole_that_fails_tells_its_run_and_how_to_replay_it():
    """SIM-9, SIM-10: what a person sees where the test above fails."""
    life = NEW.fork()
    with pytest.raises(AssertionError) as failure, life.told():
        life.take(
            Submit(Request("create", SERVICES, "default", "web", body=SERVICE, user=ADMIN)), laws
        )
        life.settle(laws, steps_max=5_000, seconds_max=5)
        is_right(life.cluster, 1, "app:1")
    lines = str(failure.value).splitlines()
    assert any("user creates Service default/web  [revision" in line for line in lines)
    command = lines[-1].removeprefix("replay it:  refk8s ").split()
    assert (
        replay(*actions_file.read(Path(command[-1])), is_whole=False).cluster.history
        == life.cluster.history
    )
    Path(command[-1]).unlink()


def merge(tree: dict) -> Patch:
    return Patch("application/merge-patch+json", tree)


NEW = new_life()
