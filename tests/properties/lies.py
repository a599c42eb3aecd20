"""Steps that never happen, made by hand: what a law must not let pass (test_laws.py).

A cluster here is a store with some objects in it, and as much of components and nodes as a lie is
about.
"""

from collections.abc import Mapping
from typing import Any

from immutables import Map
from msgspec.structs import replace
from workload_helpers import change, pod

from refk8s.core.actions import Action, Submit
from refk8s.core.api.core_v1 import (
    ContainerState,
    ContainerStateRunning,
    Node,
    NodeCondition,
    NodeSpec,
    NodeStatus,
)
from refk8s.core.api.core_v1 import ContainerStatus as Told
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.resources import Resource, by_kind
from refk8s.core.api.user import User
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.cluster.state import Cluster, Component
from refk8s.core.context import SECOND
from refk8s.core.loop.informer import Informer
from refk8s.core.loop.state import Busy, Flight, LoopState
from refk8s.core.loop.view import View, Viewer, key_of
from refk8s.core.machine import AnyMachine
from refk8s.core.ports import (
    RUNNING,
    ContainerStatus,
    Later,
    Operation,
    PodsListed,
    Result,
    SandboxStatus,
)
from refk8s.core.store import EMPTY, Committed, Delete, Put, Txn, commit
from refk8s.core.value import evolve

NOW = 1_790_000_000 * SECOND
SERVICE_ACCOUNT = "system:serviceaccount:kube-system:"
Lie = tuple[Cluster, Action, Cluster]
NO_MACHINES: Mapping[str, AnyMachine] = {}


def key(obj: Any) -> str:
    return f"{by_kind(obj.api_version, obj.kind).prefix}{key_of(obj)}"


def world(*objects: Any, **more: Any) -> Cluster:
    """A cluster whose store holds these, each written by itself."""
    cluster = Cluster(machines=NO_MACHINES, seed=b"", now=NOW, history=EMPTY, **more)
    for obj in objects:
        cluster = put(cluster, obj)
    return evolve(cluster, last_commit=None)


def written(cluster: Cluster, *writes: Any) -> Cluster:
    """After one transaction of these writes."""
    history, result = commit(cluster.history, Txn((), writes), stamp)
    assert isinstance(result, Committed)
    return evolve(cluster, history=history, last_commit=result)


def put(cluster: Cluster, *objects: Any) -> Cluster:
    """After one write of these."""
    return written(cluster, *[Put(key(obj), obj) for obj in objects])


def take(cluster: Cluster, *objects: Any) -> Cluster:
    """After one write that removes these."""
    return written(cluster, *[Delete(key(obj)) for obj in objects])


def queries(verb: str, obj: Any, who: str = "somebody", sub: str = "", **more: Any) -> Submit:
    """A request about this object."""
    resource = by_kind(obj.api_version, obj.kind)
    more.setdefault("body", obj if verb in ("create", "update") else None)
    return Submit(
        Request(
            verb,
            resource,
            obj.metadata.namespace or "",
            obj.metadata.name or "",
            sub,
            user=User(who),
            **more,
        )
    )


def told(was: Any, now: Any, verb: str = "update", **more: Any) -> Lie:
    """One object becomes another (None: goes), by such a request."""
    before = world(was)
    return (
        before,
        queries(verb, now if now is not None else was, **more),
        put(before, now) if now is not None else take(before, was),
    )


# --- objects --------------------------------------------------------------------------------------


def node(
    name: str = "n1", ready: str = "True", cpu: str = "1", taints: Any = None, **metadata: Any
) -> Node:
    conditions = (NodeCondition(type="Ready", status=ready),)
    status = NodeStatus(conditions=conditions, allocatable={"cpu": cpu, "pods": "10"})
    return Node(
        metadata=ObjectMeta(name=name, uid=f"uid-{name}", **metadata),
        spec=NodeSpec(taints=taints),
        status=status,
    )


def on_node(name: str, where: str = "n1", **more: Any) -> Any:
    return change(pod(name, ready=True), node_name=where, **more)


def with_container(obj: Any, restarts: int = 0, running: bool = True, ready: bool = True) -> Any:
    state = (
        ContainerState(running=ContainerStateRunning(started_at="2026-01-01T00:00:00Z"))
        if running
        else ContainerState()
    )
    status = Told(
        name="c",
        image="app:1",
        image_id="",
        ready=ready,
        restart_count=restarts,
        state=state,
        last_state=ContainerState(),
    )
    return replace(obj, status=replace(obj.status, container_statuses=(status,)))


# --- components -----------------------------------------------------------------------------------


def view_of(*objects: Any, revision: int = 1, resources: tuple[Resource, ...] = ()) -> View:
    """A view that shows these, of these resources and those that the objects are of."""
    shown = {by_kind(obj.api_version, obj.kind): None for obj in objects} | dict.fromkeys(resources)
    viewer = Viewer(list(shown), (), ())
    view = viewer.empty()
    for resource in shown:
        mine = [
            (key_of(obj), obj) for obj in objects if by_kind(obj.api_version, obj.kind) is resource
        ]
        view, _ = viewer.apply(view, resource, mine, revision)
    return view


def loop(
    view: View, sources: Mapping[int, Resource] | None = None, selector: str = "", **more: Any
) -> LoopState:
    """The state of a component with this view; `sources`: its lists and watches."""
    watched = dict(sources or {})
    informers = Map(
        {
            resource.prefix: Informer(resource, field_selector=selector)
            for resource in watched.values()
        }
    )
    return LoopState(
        view,
        informers,
        Map(),
        b"",
        sources=Map({id: resource.prefix for id, resource in watched.items()}),
        **more,
    )


def with_component(cluster: Cluster, name: str, state: Any, life: int = 1) -> Cluster:
    return evolve(cluster, components=cluster.components.set(name, Component(state, life)))


def decides(
    who: str,
    about: str,
    view: View,
    *waves: tuple[Request, ...],
    cluster: Cluster | None = None,
    earlier: Any = (),
    **before_that: Any,
) -> Lie:
    """A component sees this and asks for that. `earlier`: what it has on its way already;
    `before_that`: of the last decision."""
    from refk8s.core.actions import Wake

    flown = {id: Flight((who, about), request) for id, request in enumerate(earlier, 1)}
    first = len(flown)
    new = {first + id: Flight((who, about), request) for id, request in enumerate(waves[0], 1)}
    rested = Map({(who, about): Busy(**before_that)}) if before_that else Map()
    before = with_component(
        cluster or world(), "component", loop(view, flights=Map(flown), counter=first, busy=rested)
    )
    busy = Map({(who, about): Busy(waves[1:], (), len(new))})
    after = with_component(
        before,
        "component",
        loop(view, flights=Map({**flown, **new}), busy=busy, counter=first + len(new)),
    )
    return before, Wake("component"), after


def request(verb: str, obj: Any, sub: str = "", **more: Any) -> Request:
    return queries(verb, obj, sub=sub, **more).request


# --- nodes ----------------------------------------------------------------------------------------


class Runtime:
    """A container runtime that holds what it is told to."""

    def __init__(self, *running: str, sandboxes: int = 1) -> None:
        self.held = PodsListed(
            tuple(
                [
                    SandboxStatus(f"s{uid}{n}", uid, "default", "p", 0, True)
                    for uid in sorted({*running})
                    for n in range(sandboxes)
                ]
            ),
            tuple(
                [
                    ContainerStatus(f"c{n}", f"s{uid}0", uid, "c", n, RUNNING)
                    for n, uid in enumerate(running)
                ]
            ),
        )

    class node:
        hostname = "n1"

    def carry_out(
        self, operation: Operation, now: int, chance: Any
    ) -> "tuple[Runtime, Result | Later]":
        return self, self.held
