"""spec/formal/nodes.qnt in the core: node_lifecycle.py, taint_eviction.py and pod_gc.py of
refk8s/core/controllers, asked directly.

What they ask for is done at once by the real API server. They see what is; only the pod collector's
view of nodes may be late.
"""

import random
from typing import Any

from quint import Record, Variant
from tie import Act, CoreBug, Impossible, ModelBug, Picture, Twin

from refk8s.core.api.coordination_v1 import Lease, LeaseSpec
from refk8s.core.api.core_v1 import Container, Namespace, Node, Pod, PodSpec, Toleration
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import LEASES, NAMESPACES, NODES, PODS
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.state import Cluster, begin
from refk8s.core.cluster.step import submit
from refk8s.core.context import SECOND, timestamp
from refk8s.core.controllers import node_lifecycle, pod_gc, taint_eviction
from refk8s.core.controllers.node_lifecycle import (
    LEASE_NAMESPACE,
    NO_EXECUTE,
    NO_SCHEDULE,
    NOT_READY,
    UNREACHABLE,
    WATCHED_CONDITIONS,
)
from refk8s.core.loop.plan import UNCHANGED, Key, Local, Plan
from refk8s.core.loop.reconciler import Reconciler
from refk8s.core.loop.view import View, Viewer
from refk8s.core.value import evolve

NAMES, PODS_OF_THE_MODEL = ("n1", "n2", "n3", "n4"), ("p1", "p2", "p3")
TICK = 10 * SECOND
START = 1_700_000_000 * SECOND
MERGE_PATCH = "application/merge-patch+json"
READY = {"True": Variant("Yes"), "False": Variant("No"), "Unknown": Variant("Unknown")}
STATUS = {variant.tag: status for status, variant in READY.items()}


class Watcher:
    """A reconciler with its view and memory."""

    def __init__(self, reconciler: Reconciler) -> None:
        self.reconciler = reconciler
        self.viewer = Viewer(
            [interest.resource for interest in reconciler.interests],
            reconciler.indexes,
            reconciler.folds,
        )
        self.view: View = self.viewer.empty()
        self.memory: Any = reconciler.start_memory(START)

    def see(self, cluster: Cluster, *resources: Any) -> None:
        """These resources as they are now."""
        for resource in resources:
            records = cluster.history.list(resource.prefix).records
            listed = {record.key.removeprefix(resource.prefix): record.value for record in records}
            changes = [(key, None) for key in self.view.keys(resource) if key not in listed]
            known = self.view.table(resource).objects
            changes += [(key, obj) for key, obj in listed.items() if known.get(key) is not obj]
            self.view, _ = self.viewer.apply(self.view, resource, changes, cluster.history.revision)

    def plan(self, key: Key, now: int) -> Plan:
        return self.reconciler.reconcile(self.view, key, now, Local(self.memory))


class NodesTwin(Twin):
    model = "nodes"
    witnesses = (
        "some_unknown_node",
        "some_tainted_node",
        "some_evicted",
        "some_returned_node",
        "some_removed_pod",
    )
    core_bugs = (
        CoreBug("a silent node is lost too soon", node_lifecycle.observe, "if sign == health.sign:\n        return health",
                "if sign == health.sign:\n        return Health(uid, sign, health.seen - 20 * 1_000_000, GRACE)"),
        CoreBug("a fresh start counts old silence", node_lifecycle.observe, "Health(uid, sign, now, GRACE if any(sign) else STARTUP_GRACE)",
                "Health(uid, sign, now - 2 * GRACE, GRACE)"),
        CoreBug("the blind drive pods out", node_lifecycle.eviction_pause,
                "if all(ready == 0 for nodes, ready in counts.values() if nodes):", "if False:"),
        CoreBug("a small zone in trouble is emptied", node_lifecycle.eviction_pause, "else None\n    return",
                "else EVICTION_PAUSE\n    return"),
        CoreBug("all nodes are emptied at once", node_lifecycle.NodeLifecycle.reconcile, "now + pause", "now"),
        CoreBug("a node that is well stays tainted", node_lifecycle.NodeLifecycle.reconcile, "elif ready is not None:", "elif False:"),
        CoreBug("nobody is patient", taint_eviction.end_of, "start + min(seconds) * SECOND", "start"),
        CoreBug("who tolerates for ever goes too", taint_eviction.end_of, "if seconds else None", "if seconds else start"),
        CoreBug("what is not in view is gone", pod_gc.PodGarbageCollector.reconcile, "if not memory.gone.get(node_name):", "if False:"),
        CoreBug("no time is given", pod_gc.PodGarbageCollector.reconcile, "if now < since + QUARANTINE:", "if False:"),
    )  # fmt: skip
    model_bugs = (
        ModelBug("a fresh start counts old silence", "else { uid: node.uid, beats: node.beats, seen: s.now }",
                 "else { uid: node.uid, beats: node.beats, seen: s.lastHeartbeat.get(name) }", unsafe=True),
        ModelBug("no time is given", "if (s.now < since + QUARANTINE) noted", "if (false) noted"),
        ModelBug("the blind drive pods out", "well > 0 and not(unwell > 2 and", "not(unwell > 4 and", unsafe=True),
    )  # fmt: skip

    def __init__(self) -> None:
        self.now = 0
        self.cluster: Cluster = begin({}, {}, b"seed", START)
        for namespace in ("default", LEASE_NAMESPACE):
            self._ask(
                Request("create", NAMESPACES, body=Namespace(metadata=ObjectMeta(name=namespace)))
            )
        self.lifecycle = Watcher(node_lifecycle.NodeLifecycle())
        self.eviction = Watcher(taint_eviction.TaintEviction())
        self.collector = Watcher(pod_gc.PodGarbageCollector())
        self.uids: dict[str, int] = {}
        self.hosts: dict[str, int] = {}
        self.signs = 0
        self.beats: dict[tuple[str, Any], int] = {}  # (uid, sign) -> beats of the model
        for node in ("n1", "n2", "n3"):
            self.do(Act("register", (node,)))
        for pod, node, patience in (("p1", "n1", 0), ("p2", "n2", 2), ("p3", "n3", -1)):
            self.do(Act("create", (pod, node, patience)))

    # --- acts

    @classmethod
    def act_of(cls, action: str, picks: dict[str, Any], before: dict[str, Any]) -> Act:
        arguments = {
            "register": ("name",), "beat": ("name", "ready"), "finish": ("name",), "look": ("name",), "evict": ("name",),
            "collect": ("name",), "remove": ("name",), "create": ("name", "node", "patience"),
        }  # fmt: skip
        return Act(action, tuple(picks[argument] for argument in arguments.get(action, ())))

    def do(self, act: Act) -> None:
        match act:
            case Act("tick", ()):
                self.now += 1
                self.cluster = evolve(self.cluster, now=self._instant())
            case Act("register", (name,)):
                self._ask(Request("create", NODES, body=Node(metadata=ObjectMeta(name=name))))
                self.uids[self._node(name).metadata.uid] = len(self.uids) + 1
                self._sign(name, "True", 0)
            case Act("beat", (name, ready)):
                self._sign(name, STATUS[ready.tag], self._beats(name) + 1)
            case Act("finish", (name,)):
                self._ask(
                    Request(
                        "delete", PODS, "default", name, body=DeleteOptions(grace_period_seconds=0)
                    )
                )
            case Act("look", (name,)):
                if not self._looks(name):
                    raise Impossible("the node controller has nothing to do")
                self._carry_out(self.lifecycle, self._plan(name))
            case Act("restart", ()):
                self.lifecycle = Watcher(node_lifecycle.NodeLifecycle())
            case Act("evict", (name,)):
                if not self._evicts(name):
                    raise Impossible("nobody evicts it")
                self._carry_out(self.eviction, self._eviction(name))
            case Act("collector_hears", ()):
                self.collector.see(self.cluster, NODES)
                for node in self.collector.view.keys(NODES):
                    self._carry_out(
                        self.collector, self.collector.plan(pod_gc.BACK + node, self._instant())
                    )
            case Act("collect", (name,)):
                self._collect(name)
            case Act("remove", (name,)):
                self._ask(Request("delete", NODES, "", name, body=DeleteOptions()))
            case Act("create", (name, node, patience)):
                self.hosts[name] = self.uids[self._node(node).metadata.uid]
                self._ask(Request("create", PODS, "default", name, body=_pod(name, node, patience)))

    def _sign(self, name: str, ready: str, beats: int) -> None:
        """What a kubelet writes: its lease, and its node's conditions."""
        self.signs += 1
        renewed = timestamp(START + self.signs * SECOND)
        exactly = renewed.removesuffix("Z") + ".000000Z"
        lease = Lease(
            metadata=ObjectMeta(name=name, namespace=LEASE_NAMESPACE),
            spec=LeaseSpec(holder_identity=name, renew_time=exactly),
        )
        if self.cluster.history.get(f"{LEASES.prefix}{LEASE_NAMESPACE}/{name}") is None:
            self._ask(Request("create", LEASES, LEASE_NAMESPACE, body=lease))
        else:
            patch = Patch(MERGE_PATCH, {"spec": {"renewTime": exactly}})
            self._ask(Request("patch", LEASES, LEASE_NAMESPACE, name, body=patch))
        conditions = [
            {
                "type": kind,
                "status": ready if kind == "Ready" else "False",
                "lastHeartbeatTime": renewed,
            }
            for kind in WATCHED_CONDITIONS
        ]
        self._ask(
            Request(
                "patch",
                NODES,
                "",
                name,
                "status",
                body=Patch(MERGE_PATCH, {"status": {"conditions": conditions}}),
            )
        )
        self.beats[self._sign_of(name)] = beats

    def _sign_of(self, name: str) -> tuple[str, Any]:
        node = self._node(name)
        lease = self.cluster.history.get(f"{LEASES.prefix}{LEASE_NAMESPACE}/{name}")
        ready = node_lifecycle.ready_condition(node)
        assert lease is not None and ready is not None
        return node.metadata.uid, (lease.value.spec.renew_time, ready.last_heartbeat_time)

    def _carry_out(self, who: Watcher, plan: Plan) -> None:
        if plan.memory is not UNCHANGED:
            who.memory = plan.memory
        for wave in plan.waves:
            for request in wave:
                self._ask(request)

    def _collect(self, name: str) -> None:
        plan = self._collection(name)
        if not self._collects(plan):
            raise Impossible("the collector leaves it alone")
        self._carry_out(self.collector, plan)
        for question in plan.queries:
            _, response = submit(self.cluster, evolve(question, user=ADMIN))
            self.collector.memory, _ = self.collector.reconciler.answered(
                self.collector.memory, f"default/{name}", question, response, self._instant()
            )

    def _ask(self, request: Request) -> None:
        self.cluster, response = submit(self.cluster, evolve(request, user=ADMIN))
        assert response.ok, response.body

    # --- what they would do

    def _plan(self, name: str) -> Plan:
        self.lifecycle.see(self.cluster, NODES, LEASES, PODS)
        return self.lifecycle.plan(name, self._instant())

    def _looks(self, name: str) -> bool:
        plan, before = self._plan(name), self._show_health(self.lifecycle.memory)
        return any(plan.waves) or (
            plan.memory is not UNCHANGED and self._show_health(plan.memory) != before
        )

    def _eviction(self, name: str) -> Plan:
        self.eviction.see(self.cluster, NODES, PODS)
        return self.eviction.plan(f"default/{name}", self._instant())

    def _evicts(self, name: str) -> bool:
        return any(
            request.verb == "delete" for wave in self._eviction(name).waves for request in wave
        )

    def _collection(self, name: str) -> Plan:
        self.collector.see(self.cluster, PODS)
        return self.collector.plan(f"default/{name}", self._instant())

    def _collects(self, plan: Plan) -> bool:
        memory = self.collector.memory
        changed = plan.memory is not UNCHANGED and (plan.memory.missing, plan.memory.gone) != (
            memory.missing,
            memory.gone,
        )
        return any(plan.waves) or bool(plan.queries) or changed

    # --- what is where

    def _instant(self) -> int:
        return START + self.now * TICK

    def _node(self, name: str) -> Any:
        record = self.cluster.history.get(f"{NODES.prefix}{name}")
        return record.value if record is not None else None

    def _stored(self, name: str) -> Any:
        record = self.cluster.history.get(f"{PODS.prefix}default/{name}")
        return record.value if record is not None else None

    def _beats(self, name: str) -> int:
        return self.beats[self._sign_of(name)]

    # --- choices

    def choices(self, chance: random.Random) -> list[Act]:
        there = [name for name in NAMES if self._node(name) is not None]
        pods = [name for name in PODS_OF_THE_MODEL if self._stored(name) is not None]
        found = [Act("look", (name,)) for name in NAMES if self._looks(name)]
        found += [Act("evict", (name,)) for name in pods if self._evicts(name)]
        found += [
            Act("collect", (name,)) for name in pods if self._collects(self._collection(name))
        ]
        if self.collector.view.keys(NODES) != there:
            found.append(Act("collector_hears"))
        if found and chance.randrange(2):
            return found
        found = [Act("tick")]
        if chance.randrange(2):
            return found
        for name in NAMES:
            if name not in there:
                found.append(Act("register", (name,)))
            else:
                found += [Act("beat", (name, ready)) for ready in (READY["True"], READY["False"])]
                found += [Act("remove", (name,))] * (chance.randrange(4) == 0)
        for name in PODS_OF_THE_MODEL:
            if name not in pods and there:
                found.append(Act("create", (name, chance.choice(there), chance.choice([-1, 0, 2]))))
            elif (
                name in pods
                and self._stored(name).metadata.deletion_timestamp
                and self._stored(name).spec.node_name in there
            ):
                found.append(Act("finish", (name,)))
        return found + [Act("restart")] * (
            bool(self.lifecycle.memory.nodes) and chance.randrange(4) == 0
        )

    # --- pictures

    def show(self) -> Picture:
        collector = self.collector.memory
        return Record(
            now=self.now,
            nodes={
                name: self._show_node(self._node(name))
                for name in NAMES
                if self._node(name) is not None
            },
            pods={
                name: self._show_pod(self._stored(name))
                for name in PODS_OF_THE_MODEL
                if self._stored(name) is not None
            },
            uids=len(self.uids),
            **self._show_health(self.lifecycle.memory),
            shown=frozenset(self.collector.view.keys(NODES)),
            missing={name: self._tick(at) for name, at in collector.missing.items()},
            ends=frozenset(
                name
                for name in PODS_OF_THE_MODEL
                if self._stored(name) is not None and self._evicts(name)
            ),
            gone=frozenset(name for name, is_gone in collector.gone.items() if is_gone),
        )

    def _tick(self, at: int) -> int:
        return (at - START) // TICK

    def _show_node(self, node: Any) -> Record:
        taints = (node.spec.taints if node.spec is not None else None) or ()
        drives = [taint for taint in taints if taint.effect == NO_EXECUTE]
        assert len(drives) <= 1
        return Record(
            uid=self.uids[node.metadata.uid],
            ready=READY[node_lifecycle.ready_condition(node).status],
            beats=self._beats(node.metadata.name),
            keeps=frozenset(_short(taint.key) for taint in taints if taint.effect == NO_SCHEDULE),
            drives=_short(drives[0].key) if drives else "",
            since=self._tick(node_lifecycle_time(drives[0])) if drives else 0,
        )

    def _show_pod(self, pod: Any) -> Record:
        name = pod.metadata.name
        return Record(
            node=pod.spec.node_name,
            host=self.hosts[name],
            deleting=pod.metadata.deletion_timestamp is not None,
        )

    def _show_health(self, memory: Any) -> Record:
        health = {
            name: Record(
                uid=self.uids[one.uid],
                beats=self.beats[one.uid, one.sign],
                seen=self._tick(one.seen),
            )
            for name, one in memory.nodes.items()
        }
        return Record(
            health=health,
            evictNext=max((self._tick(at) for at in memory.evict_next.values()), default=0),
        )

    @classmethod
    def shown(cls, state: dict[str, Any]) -> Picture:
        s = state["s"]
        pods = {
            name: Record({field: pod[field] for field in ("node", "host", "deleting")})
            for name, pod in s["pods"].items()
        }
        fields = ("now", "nodes", "uids", "health", "evictNext", "shown", "missing", "gone", "ends")
        return Record({name: s[name] for name in fields}, pods=pods)


def node_lifecycle_time(taint: Any) -> int:
    """When the taint was put on."""
    return taint_eviction.parse_timestamp(taint.time_added)


def _short(key: str) -> str:
    return key.rpartition("/")[2]


def _pod(name: str, node: str, patience: int) -> Pod:
    """A pod on a node that tolerates for so many ticks what drives pods out; -1: for ever."""
    seconds = None if patience < 0 else patience * TICK // SECOND
    tolerations = tuple(
        Toleration(key=key, operator="Exists", effect=NO_EXECUTE, toleration_seconds=seconds)
        for key in (NOT_READY, UNREACHABLE)
    )
    spec = PodSpec(
        containers=(Container(name="c", image="app"),), node_name=node, tolerations=tolerations
    )
    return Pod(metadata=ObjectMeta(name=name, namespace="default"), spec=spec)
