"""Scheduler extenders: what another server is asked about a pod, and what its answers mean. Rules
SCHED-57 to SCHED-61 (spec/scheduler_profiles.md).

An extender is a web server that the configuration names. It filters and scores the nodes that the
plugins leave, may change the victims of preemption, and may bind pods itself. Every answer is
checked here: it may be of any size, form and content. Source: Kubernetes documentation,
"kube-scheduler Configuration (v1)" (Extender); design proposal "Scheduler extender"; the messages
of kube-scheduler.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from refk8s.core.api import codec, status
from refk8s.core.api.core_v1 import Node, Pod
from refk8s.core.ports import Failed, Post, Posted, Result, Tls
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.value import Value

EXTENDERS_MAX = 16
SECONDS_DEFAULT, SECONDS_MAX = 5.0, 600.0
SCORE_MIN, SCORE_MAX = 0, 10
SCALE = 10  # of 100 points for a node
TEXT_MAX = 256  # letters of a message about a node
MESSAGES_MAX = 50  # different messages of one answer
ERROR_MAX = 1_024


class Extender(Value, frozen=True):
    """An extender of the configuration. Empty verbs: it is not asked for that. `managed`: extended
    resources; only pods that request one of them are of interest to it. `is_ignorable`: without an
    answer the decision goes on."""

    url: str
    filter_verb: str = ""
    prioritize_verb: str = ""
    preempt_verb: str = ""
    bind_verb: str = ""
    weight: int = 1
    has_node_cache: bool = False  # nodes are sent by their names
    managed: frozenset[str] = frozenset()
    is_ignorable: bool = False
    seconds: float = SECONDS_DEFAULT
    tls: Tls = Tls()

    def address(self, verb: str) -> str:
        """The URL of a verb."""
        return f"{self.url.rstrip('/')}/{verb}"

    def is_interested(self, pod: Pod) -> bool:
        """Whether it is asked about this pod (SCHED-57)."""
        if not self.managed:
            return True
        for container in (*pod.spec.containers, *(pod.spec.init_containers or ())):
            given = container.resources
            if given is not None and not self.managed.isdisjoint(
                (*(given.requests or ()), *(given.limits or ()))
            ):
                return True
        return False

    def post(self, verb: str, tree: Any) -> Post:
        return Post(self.address(verb), codec.encode(tree), self.seconds, self.tls)


class BadAnswer(Exception):
    """There is no answer that can be used. The message is upstream's where it has one."""

    def __init__(self, message: str) -> None:
        super().__init__(message[:ERROR_MAX])


class Victims(Value, frozen=True):
    """The victims on a node: their uids, and how many of them a budget protects."""

    uids: tuple[str, ...]
    violations: int


# --- questions ------------------------------------------------------------------------------------


def ask_about(extender: Extender, verb: str, pod: Pod, nodes: Sequence[Node]) -> Post:
    """The question which of these nodes are suitable (ExtenderArgs)."""
    names = [node.metadata.name for node in nodes] if extender.has_node_cache else None
    listed = {"metadata": {}, "items": nodes} if names is None else None
    return extender.post(verb, {"Pod": pod, "Nodes": listed, "NodeNames": names})


def ask_for_victims(
    extender: Extender, pod: Pod, victims: Mapping[str, tuple[Sequence[Pod], int]]
) -> Post:
    """The question which of these pods are to be deleted (ExtenderPreemptionArgs)."""
    whole = meta = None
    if extender.has_node_cache:
        meta = {
            node: {
                "Pods": [{"UID": one.metadata.uid} for one in pods],
                "NumPDBViolations": violations,
            }
            for node, (pods, violations) in victims.items()
        }
    else:
        whole = {
            node: {"Pods": pods, "NumPDBViolations": violations}
            for node, (pods, violations) in victims.items()
        }
    tree = {"Pod": pod, "NodeNameToVictims": whole, "NodeNameToMetaVictims": meta}
    return extender.post(extender.preempt_verb, tree)


def ask_to_bind(extender: Extender, pod: Pod, node: str) -> Post:
    """The request to bind the pod (ExtenderBindingArgs)."""
    metadata = pod.metadata
    tree = {
        "PodName": metadata.name,
        "PodNamespace": metadata.namespace,
        "PodUID": metadata.uid,
        "Node": node,
    }
    return extender.post(extender.bind_verb, tree)


# --- answers --------------------------------------------------------------------------------------


class Verdict(Value, frozen=True, eq=False):
    """The nodes that an extender lets pass, and why it rejects others."""

    passing: frozenset[str]
    refusals: Mapping[str, Refusal]


def read_verdict(extender: Extender, names: Sequence[str], result: Result) -> Verdict:
    """What the extender says about the nodes that it was asked about (ExtenderFilterResult). Raises
    BadAnswer."""
    tree = _tree(extender, extender.filter_verb, result)
    _raise_error(tree)
    given = _field(tree, "NodeNames")
    if not extender.has_node_cache or given is None:
        listed = _field(tree, "Nodes")
        items = _field(listed, "items") if listed is not None else ()
        given = [_field(_field(item, "metadata"), "name") for item in _list(items)]
    passing = frozenset([one for one in _list(given) if isinstance(one, str)])
    if strange := sorted(passing.difference(names)):
        raise BadAnswer(
            f"extender {status.show(extender.url)} claims a filtered node "
            f"{status.show(strange[0])} which is not found in the input node list"
        )
    failed, hopeless = _texts(tree, "FailedNodes"), _texts(tree, "FailedAndUnresolvableNodes")
    refusals: dict[str, Refusal] = {}
    known: dict[tuple[str, bool], Refusal] = {}
    for name in names:
        if name in passing:
            continue
        text = hopeless.get(name, failed.get(name))
        key = (text or "", name not in hopeless and text is not None)
        if key not in known and len(known) >= MESSAGES_MAX:
            key = ("", key[1])
        if key not in known:
            known[key] = Refusal(extender.url, (key[0],) if key[0] else (), key[1])
        refusals[name] = known[key]
    return Verdict(passing, refusals)


def read_scores(extender: Extender, result: Result) -> dict[str, int]:
    """The points of each node that has some, with the weight (HostPriorityList). Scores are limited
    to 0 to 10. Raises BadAnswer."""
    points: dict[str, int] = {}
    for each in _list(_tree(extender, extender.prioritize_verb, result)):
        name, score = _field(each, "Host"), _field(each, "Score")
        if isinstance(name, str) and type(score) is int:
            limited = min(max(score, SCORE_MIN), SCORE_MAX)
            points[name] = points.get(name, 0) + limited * extender.weight * SCALE
    return points


def read_victims(
    extender: Extender, candidates: Mapping[str, frozenset[str]], result: Result
) -> dict[str, Victims]:
    """The victims on each node that the extender leaves (ExtenderPreemptionResult). `candidates`:
    the uids of the pods that may be deleted, by node. Raises BadAnswer."""
    tree = _field(_tree(extender, extender.preempt_verb, result), "NodeNameToMetaVictims")
    found: dict[str, Victims] = {}
    for node, each in tree.items() if isinstance(tree, dict) else ():
        if node not in candidates:
            raise BadAnswer(f"nodeinfo not found for node name {status.show(node)}")
        uids = tuple(dict.fromkeys(str(_field(one, "UID")) for one in _list(_field(each, "Pods"))))
        for uid in uids:
            if uid not in candidates[node]:
                raise BadAnswer(
                    f"extender: {extender.url} claims to preempt pod (UID: {uid}) on node: {node}, "
                    "but the pod is not found on that node"
                )
        if not uids:
            if extender.is_ignorable:
                continue
            raise BadAnswer(f"expected at least one victim pod on node {status.show(node)}")
        violations = _field(each, "NumPDBViolations")
        counted = violations if type(violations) is int and violations > 0 else 0
        found[node] = Victims(uids, min(counted, len(uids)))
    return found


def read_binding(extender: Extender, result: Result) -> None:
    """The extender has bound the pod (ExtenderBindingResult). Raises BadAnswer."""
    _raise_error(_tree(extender, extender.bind_verb, result))


def _tree(extender: Extender, verb: str, result: Result) -> Any:
    """The JSON of the answer. Raises BadAnswer."""
    if isinstance(result, Failed):
        raise BadAnswer(result.message)
    assert isinstance(result, Posted)
    if result.code != 200:
        address = extender.address(verb)
        raise BadAnswer(f"failed {verb} with extender at URL {address}, code {result.code}")
    if not result.body:
        raise BadAnswer("EOF")
    try:
        return msgspec.json.decode(result.body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadAnswer(f"the answer is not JSON: {error}") from None


def _raise_error(tree: Any) -> None:
    if not isinstance(tree, dict):
        raise BadAnswer("the answer is not an object")
    if error := _field(tree, "Error"):
        raise BadAnswer(str(error))


def _field(tree: Any, name: str) -> Any:
    """A field of an object, in any case of letters as Go reads it; None without one."""
    if not isinstance(tree, dict):
        return None
    if name in tree:
        return tree[name]
    wanted = name.lower()
    return next((value for key, value in tree.items() if key.lower() == wanted), None)


def _list(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise BadAnswer("the answer has something else in place of a list")
    return value


def _texts(tree: Any, name: str) -> dict[str, str]:
    found = _field(tree, name)
    return (
        {key: str(text)[:TEXT_MAX] for key, text in found.items()}
        if isinstance(found, dict)
        else {}
    )
