"""An API server without a server, for tests: requests go through `handle` onto a `History`, and
everything that happened is kept.

`World` is one store with its past; `steps` draws what users, controllers and mistakes may ask of
it, few objects of few kinds so that they meet. A step is drawn without knowing the state: "the
present resourceVersion", "an old one" are looked up when it is taken.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import frozen
from hypothesis import strategies as st
from msgspec.structs import replace

from refk8s.core.api import core_v1, resources
from refk8s.core.api.apps_v1 import Deployment, DeploymentSpec
from refk8s.core.api.coordination_v1 import Lease, LeaseSpec
from refk8s.core.api.core_v1 import ConfigMap, Container, Namespace, Pod, PodSpec, PodTemplateSpec
from refk8s.core.api.meta_v1 import DeleteOptions, LabelSelector, ObjectMeta, Preconditions
from refk8s.core.api.networking_v1 import NetworkPolicy, NetworkPolicySpec
from refk8s.core.api.request import Options, Patch, Request, Response
from refk8s.core.api.resources import Resource
from refk8s.core.api.user import ADMIN, User
from refk8s.core.apiserver import watch
from refk8s.core.apiserver.calls import Ask, Call, Result
from refk8s.core.apiserver.config import DEFAULT_CONFIG, Config
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.handle import handle, resume
from refk8s.core.apiserver.http import Received, WireRequest, receive, reply_to
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.apiserver.outcome import Commit, Connect, Stream
from refk8s.core.apiserver.respond import Reply, stream_type, write_events
from refk8s.core.context import SECOND, Context, SeededChance
from refk8s.core.store import EMPTY, Committed, Conflict, History, commit
from refk8s.core.value import evolve

START = 1_700_000_000 * SECOND
NAMESPACES = ("default", "other")
KINDS = (
    resources.CONFIG_MAPS,
    resources.PODS,
    resources.DEPLOYMENTS,
    resources.LEASES,
    resources.NETWORK_POLICIES,
)


@frozen
class Taken:
    """One request and what came of it. `committed` is None where nothing was written."""

    request: Request
    outcome: Any
    response: Any
    before: History[Any]
    after: History[Any]
    committed: Committed[Any] | None

    @property
    def changes(self) -> tuple[Any, ...]:
        return self.committed.changes if self.committed is not None else ()


class World:
    """A store that requests are handled on, one after another. Time passes by a second with
    each."""

    def __init__(
        self, namespaces: tuple[str, ...] = NAMESPACES, config: Config = DEFAULT_CONFIG
    ) -> None:
        self.config = config
        self.history: History[Any] = EMPTY
        self.now = START
        self.turn = 0
        self.taken: list[Taken] = []
        for name in namespaces:
            assert (
                self.do(
                    Request(
                        "create",
                        resources.NAMESPACES,
                        body=Namespace(metadata=ObjectMeta(name=name)),
                        user=ADMIN,
                    )
                ).response.code
                == 201
            )

    def context(self) -> Context:
        self.turn += 1
        self.now += SECOND
        return Context(self.now, SeededChance(self.turn.to_bytes(8, "big")))

    def do(self, request: Request) -> Taken:
        """Handle it and commit what comes of it, again where the store says that it has changed
        since."""
        before = self.history
        outcome = handle(Exchange(request, before, self.context(), self.config))
        while isinstance(outcome, Ask):
            results = [self.answer(call) for call in outcome.calls]
            before = self.history
            outcome = resume(outcome, results, before, self.config, self.now)
        response, committed = outcome, None
        if isinstance(outcome, Commit):
            self.history, result = commit(before, outcome.txn, stamp)
            assert isinstance(result, Committed), f"nothing came between and yet {result}"
            response, committed = outcome.respond(result), result
        self.taken.append(Taken(request, outcome, response, before, self.history, committed))
        if isinstance(outcome, Commit) and outcome.rest is not None:
            return self.do(outcome.rest)
        return self.taken[-1]

    def answer(self, call: Call) -> Result:
        """The answer of another server that is called: webhooks."""
        raise AssertionError(f"nobody answers {call.url}")

    def get(self, resource: Resource, name: str, namespace: str = "default") -> Any:
        """The object, or None."""
        record = self.history.get(resource.key(namespace, name))
        return None if record is None else record.value

    def http(
        self,
        method: str,
        target: str,
        body: bytes | Any = b"",
        headers: dict[str, str] | None = None,
        user: User | None = ADMIN,
    ) -> Reply | Connect:
        """The same by way of the wire: bytes in, bytes out."""
        path, _, query = target.partition("?")
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        wire = WireRequest(method, path, query, headers or {}, text)
        received = receive(wire, user, config=self.config, store=self.history)
        if isinstance(received, Reply):
            return received
        assert isinstance(received, Received), "another API server answers this"
        taken = self.do(received.request)
        if isinstance(taken.response, Stream):
            stream = taken.response
            events = (
                *watch.initial_events(stream),
                *watch.events(stream, self.history.changes(stream.prefix, stream.revision)),
            )
            content = write_events(events, received.form, stream.resource, self.now, columns=True)
            return Reply(200, content, stream_type(received.form))
        if isinstance(taken.response, Connect):
            return taken.response
        return reply_to(received, taken.response, self.now).whole()


# --- objects

_CONTAINERS = (Container(name="c", image="image:1"),)
_TEMPLATE = PodTemplateSpec(
    metadata=ObjectMeta(labels={"app": "x"}), spec=PodSpec(containers=_CONTAINERS)
)


def an_object(resource: Resource, metadata: ObjectMeta, number: int = 0) -> Any:
    """An object of the kind; a different number, a different desired state."""
    match resource.kind:
        case "ConfigMap":
            return ConfigMap(metadata=metadata, data={"number": str(number)})
        case "Pod":
            return Pod(
                metadata=metadata,
                spec=PodSpec(containers=_CONTAINERS, active_deadline_seconds=1000 - number),
            )
        case "Deployment":
            spec = DeploymentSpec(
                replicas=number,
                selector=LabelSelector(match_labels={"app": "x"}),
                template=_TEMPLATE,
            )
            return Deployment(metadata=metadata, spec=spec)
        case "Lease":
            return Lease(metadata=metadata, spec=LeaseSpec(lease_transitions=number))
        case "NetworkPolicy":
            selector = LabelSelector(match_labels={"number": str(number)})
            return NetworkPolicy(metadata=metadata, spec=NetworkPolicySpec(pod_selector=selector))
    raise AssertionError(resource)


def with_status(obj: Any, number: int) -> Any:
    """The object with another status, of kinds that have one."""
    match obj.kind:
        case "Pod":
            phase = ("Pending", "Running", "Succeeded")[number % 3]
            return replace(obj, status=core_v1.PodStatus(phase=phase, message=f"number {number}"))
        case "Deployment":
            return replace(obj, status=replace(obj.status, observed_generation=number + 1))
    return obj


# --- steps

names = st.sampled_from(["a", "a", "b"])
numbers = st.integers(0, 3)
label_maps = st.sampled_from([None, {}, {"app": "x"}, {"app": "y"}, {"app": "x", "tier": "z"}])
finalizer_tuples = st.sampled_from(
    [None, (), ("example.com/one",), ("example.com/two",), ("example.com/one", "example.com/two")]
)


@frozen
class Step:
    """Something to ask, not yet of a particular state. `version` and `uid` are none, present, old
    or odd."""

    verb: str
    resource: Resource
    namespace: str
    name: str
    subresource: str = ""
    number: int = 0
    labels: Any = None
    annotations: Any = None
    finalizers: Any = None
    version: str = "none"
    uid: str = "none"
    policy: str = ""
    grace: int | None = None
    dry_run: bool = False
    media_type: str = "application/merge-patch+json"
    selector: str = ""

    def request(self, world: World) -> Request:
        """The request on this state."""
        current = world.get(self.resource, self.name, self.namespace)
        version = {
            "none": None,
            "present": current.metadata.resource_version if current is not None else None,
            "old": "1",
            "odd": "x",
        }[self.version]
        uid = {
            "none": None,
            "present": current.metadata.uid if current is not None else None,
            "old": "1-2-3",
            "odd": "",
        }[self.uid]
        metadata = ObjectMeta(
            name=self.name,
            labels=self.labels,
            annotations=self.annotations,
            finalizers=self.finalizers,
            resource_version=version,
            uid=uid,
            generation=77,
            creation_timestamp="2001-01-01T00:00:00Z",
            # in a change it is refused (VAL-5)
            deletion_timestamp="2001-01-01T00:00:00Z" if self.verb == "create" else None,
        )
        options = Options(dry_run=self.dry_run)
        asked = Request(
            self.verb,
            self.resource,
            self.namespace,
            self.name,
            self.subresource,
            None,
            options,
            user=ADMIN,
        )
        match self.verb:
            case "create" if self.subresource == "binding":
                body: Any = core_v1.Binding(
                    metadata=ObjectMeta(name=self.name),
                    target=core_v1.ObjectReference(kind="Node", name="node-1"),
                )
            case "create":
                body = with_status(
                    an_object(
                        self.resource,
                        replace(metadata, uid="of the client", resource_version=None),
                        self.number,
                    ),
                    self.number,
                )
                asked = evolve(asked, name="")
            case "update":
                body = with_status(self._changed(current, metadata), self.number)
            case "patch":
                tree = {
                    "metadata": {
                        "labels": self.labels,
                        "finalizers": self.finalizers and list(self.finalizers),
                        "generation": 99,
                    }
                }
                if self.resource == resources.CONFIG_MAPS:
                    tree["data"] = {"number": str(self.number)}
                body = Patch(self.media_type, tree)
            case "delete" | "deletecollection":
                wanted = (
                    Preconditions(uid=uid, resource_version=version)
                    if self.version != "none" or self.uid != "none"
                    else None
                )
                body = DeleteOptions(
                    propagation_policy=self.policy or None,
                    grace_period_seconds=self.grace,
                    preconditions=wanted,
                )
                if self.verb == "deletecollection":
                    asked = evolve(
                        asked, name="", options=evolve(options, label_selector=self.selector)
                    )
            case _:
                body = None
        return evolve(asked, body=body)

    def _changed(self, current: Any, metadata: ObjectMeta) -> Any:
        """An update as users make them: of what is there, the desired state another."""
        if current is None:
            return an_object(self.resource, metadata, self.number)
        fresh = an_object(self.resource, metadata, self.number)
        if self.resource == resources.PODS:
            deadline = min(current.spec.active_deadline_seconds or 1000, 1000 - self.number)
            return replace(
                current,
                metadata=metadata,
                spec=replace(current.spec, active_deadline_seconds=deadline),
            )
        if self.resource == resources.DEPLOYMENTS:
            return replace(
                current, metadata=metadata, spec=replace(current.spec, replicas=self.number)
            )
        return fresh


def steps(kinds: tuple[Resource, ...] = KINDS) -> st.SearchStrategy[Step]:
    """Any step on these kinds."""
    common = {
        "resource": st.sampled_from(kinds),
        "namespace": st.sampled_from(["default", "default", "default", "other"]),
        "name": names,
    }
    written = {
        "number": numbers,
        "labels": label_maps,
        "finalizers": finalizer_tuples,
        "dry_run": st.sampled_from([False, False, False, True]),
    }
    notes = {"annotations": st.sampled_from([None, {"note": "1"}, {"note": "2"}])}
    versions = st.sampled_from(["none", "present", "present", "present", "old", "odd"])
    uids = st.sampled_from(["none", "none", "present", "present", "old"])
    policies = st.sampled_from(["", "Background", "Foreground", "Orphan"])
    graces = st.sampled_from([None, None, 0, 5, 100, -1])
    media_types = st.sampled_from(
        ["application/merge-patch+json", "application/strategic-merge-patch+json"]
    )
    creates = st.builds(Step, verb=st.just("create"), **common, **written, **notes)
    updates = st.builds(
        Step, verb=st.just("update"), **common, **written, **notes, version=versions, uid=uids
    )
    good_updates = st.builds(
        Step,
        verb=st.just("update"),
        **common,
        **{**written, "dry_run": st.just(False)},
        **notes,
        version=st.just("present"),
    )
    on_status = {**common, "resource": _with_status(kinds)}
    statuses = st.builds(
        Step,
        verb=st.just("update"),
        subresource=st.just("status"),
        **on_status,
        **written,
        **notes,
        version=versions,
    )
    patches = st.builds(Step, verb=st.just("patch"), **common, **written, media_type=media_types)
    exact_deletes = st.builds(
        Step,
        verb=st.just("delete"),
        **common,
        version=versions,
        uid=uids,
        policy=policies,
        grace=graces,
    )
    deletes = st.builds(Step, verb=st.just("delete"), **common, policy=policies, grace=graces)
    collections = st.builds(
        Step,
        verb=st.just("deletecollection"),
        **common,
        policy=policies,
        grace=graces,
        selector=st.sampled_from(["app=y", "app=x", "", "app!=x"]),
    )
    common["resource"] = st.just(resources.PODS)
    bindings = (
        [st.builds(Step, verb=st.just("create"), subresource=st.just("binding"), **common)]
        if resources.PODS in kinds
        else []
    )
    # What makes objects and changes them stands here more than once, or deletes would leave nothing
    # to look at.
    return st.one_of(
        creates,
        good_updates,
        updates,
        statuses,
        patches,
        creates,
        *bindings,
        exact_deletes,
        deletes,
        good_updates,
        patches,
        collections,
    )


def _with_status(kinds: tuple[Resource, ...]) -> st.SearchStrategy[Resource]:
    return st.sampled_from([kind for kind in kinds if kind.has_status] or list(kinds))


def histories(kinds: tuple[Resource, ...] = KINDS, size: int = 25) -> st.SearchStrategy[list[Step]]:
    """Sequences of steps."""
    return st.lists(steps(kinds), max_size=size)


def populated() -> World:
    """A world with an object of every kind, so that steps have something to meet."""
    world = World()
    for kind in KINDS:
        assert (
            world.do(
                Request(
                    "create",
                    kind,
                    "default",
                    body=an_object(kind, ObjectMeta(name="a", labels={"app": "x"})),
                    user=ADMIN,
                )
            ).response.code
            == 201
        )
    return world


def run(sequence: list[Step]) -> World:
    """A populated world in which all of them have been taken."""
    world = populated()
    for step in sequence:
        world.do(step.request(world))
    return world


__all__ = [
    "DEFAULT_CONFIG",
    "KINDS",
    "NAMESPACES",
    "START",
    "Conflict",
    "Response",
    "Step",
    "Taken",
    "World",
    "an_object",
    "histories",
    "names",
    "populated",
    "run",
    "steps",
    "with_status",
]
