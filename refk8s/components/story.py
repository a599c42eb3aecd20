"""The story: who wrote what because of what, a line a step, as it happens (`refk8s run --story`).

Every line is one write that the store has accepted, one operation that a node's runtime has been asked for, or one set of service rules.
Heartbeats and Events are left out: they repeat what other lines say.
"""

from collections.abc import Callable
from typing import Any

from refk8s.core.api.request import Request
from refk8s.core.api.resources import EVENTS, EVENTS_V1, LEASES
from refk8s.core.context import SECOND, Instant, timestamp
from refk8s.core.ports import (
    CreateContainer,
    Operation,
    PullImage,
    RemovePodSandbox,
    RuleSet,
    RunPodSandbox,
    StartContainer,
    StopContainer,
)
from refk8s.core.store import Committed

UNTOLD = {EVENTS.prefix, EVENTS_V1.prefix, LEASES.prefix}

_SPEAKERS = {
    "kubernetes-admin": "user",
    "system:kube-scheduler": "scheduler",
    "system:kube-proxy": "proxy",
    "system:apiserver": "API server",
}


def speaker(user: str) -> str:
    """A user name as a reader would say it."""
    if user.startswith("system:node:"):
        return f"kubelet of {user.removeprefix('system:node:')}"
    if user.startswith("system:serviceaccount:kube-system:"):
        return f"{user.removeprefix('system:serviceaccount:kube-system:').removesuffix('-controller')} controller"
    return _SPEAKERS.get(user, user)


def sentence(request: Request, committed: "Committed[Any]") -> str | None:
    """What a committed request did, or None where it is not worth a line."""
    resource = request.resource
    if resource.prefix in UNTOLD or not committed.changes or (resource.plural == "nodes" and request.subresource == "status"):
        return None
    changes = [change for change in committed.changes if change.key.startswith(resource.prefix)]
    if not changes:
        return None
    change = changes[0]
    obj = change.record.value if change.record is not None else change.previous.value  # type: ignore[union-attr]
    name = f"{resource.kind} {obj.metadata.namespace + '/' if obj.metadata.namespace else ''}{obj.metadata.name}"
    match request.verb, request.subresource:
        case "create", "binding":
            words = f"binds {name} to node {obj.spec.node_name}"
        case "create", "":
            words = f"creates {name}"
        case ("update" | "patch"), "status":
            words = f"reports {name}{_state(obj)}"
        case ("update" | "patch"), "scale":
            words = f"scales {name} to {obj.spec.replicas}"
        case "delete" | "deletecollection", _:
            words = f"deletes {name}" if change.record is None else f"marks {name} for deletion"
        case _:
            words = f"changes {name}" if change.record is not None else f"lets go of {name}, which is gone"
    because = f", because {request.because}" if request.because else ""
    return f"{speaker(request.user.name)} {words}{because}  [revision {committed.revision}]"


def _state(obj: Any) -> str:
    status = obj.status
    if obj.kind == "Pod":
        ready = any(c.type == "Ready" and c.status == "True" for c in status.conditions or ())
        return f" as {status.phase}{' and ready' if ready else ''}"
    replicas = getattr(status, "replicas", None)
    if replicas is not None and hasattr(status, "ready_replicas"):
        return f": {status.ready_replicas or 0} of {obj.spec.replicas} ready"
    phase = getattr(status, "phase", None)
    return f" as {phase}" if phase else ""


def operation_sentence(node: str, operation: Operation) -> str | None:
    """What a node's runtime is asked to do, or None where it is not worth a line."""
    match operation:
        case RunPodSandbox(config):
            words = f"starts the pause container that owns the network of pod {config.namespace}/{config.name}"
        case PullImage(_, image, policy):
            words = f"has image {image} at hand (policy {policy})"
        case CreateContainer(_, config):
            words = f"makes container {config.name} in the network of pod {config.namespace}/{config.pod_name}"
        case StartContainer(_, container_id):
            words = f"starts container {container_id[:12]}"
        case StopContainer(_, container_id, grace):
            words = f"stops container {container_id[:12]}: SIGTERM, and SIGKILL after {grace} s"
        case RemovePodSandbox():
            words = "removes a pod's pause container and network"
        case _:
            return None
    return f"kubelet of {node} {words}"


def rules_sentence(node: str, rules: RuleSet) -> str:
    """What a node's proxy has made the rules."""
    open_rules = [rule for of_service in rules.services.values() for rule in of_service if rule.targets]
    targets = sum(len(rule.targets) for rule in open_rules)
    return f"proxy of {node} balances {len(open_rules)} service addresses over {targets} endpoints"


class Storyteller:
    """Prints sentences with the time that has passed since the start."""

    def __init__(self, now: Callable[[], Instant], say: Callable[[str], None] = print) -> None:
        self._now = now
        self._say = say
        self._start = now()
        self._last = ""
        say(f"The story begins at {timestamp(self._start)}.")

    def committed(self, request: Request, committed: "Committed[Any]") -> None:
        self.tell(sentence(request, committed))

    def operated(self, node: str, operation: Operation) -> None:
        self.tell(operation_sentence(node, operation))

    def programmed(self, node: str, rules: RuleSet) -> None:
        self.tell(rules_sentence(node, rules))

    def tell(self, words: str | None) -> None:
        """One line, unless it is the same as the last."""
        if words and words != self._last:
            self._last = words
            self._say(f"{(self._now() - self._start) / SECOND:8.3f} s  {words}")
