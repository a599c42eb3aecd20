"""`refk8s run --story`: prints each write with its author and its reason, one line each.

Every line is one committed write, one operation of a node's runtime, or one set of service rules.
Heartbeats and Events are left out, since they repeat other lines.
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
    RemoveContainer,
    RemovePodSandbox,
    RuleSet,
    RunPodSandbox,
    StartContainer,
    StopContainer,
    UpdateContainerResources,
)
from refk8s.core.store import Committed

NOT_PRINTED = {EVENTS.prefix, EVENTS_V1.prefix, LEASES.prefix}

_SHORT_NAMES = {
    "kubernetes-admin": "user",
    "system:kube-scheduler": "scheduler",
    "system:kube-proxy": "proxy",
    "system:apiserver": "API server",
}
_ACCOUNTS = {
    "generic-garbage-collector": "garbage collector",
    "pod-garbage-collector": "pod garbage collector",
    "root-ca-certificate-publisher": "root certificate publisher",
}


def short_name(user: str) -> str:
    """The short name of a user in the story."""
    if user in _SHORT_NAMES:
        return _SHORT_NAMES[user]
    if user.startswith("system:node:"):
        return f"kubelet of {user.removeprefix('system:node:')}"
    if user.startswith("system:serviceaccount:kube-system:"):
        account = user.removeprefix("system:serviceaccount:kube-system:").removesuffix(
            "-controller"
        )
        return _ACCOUNTS.get(account, f"{account} controller")
    return user


def sentence(request: Request, committed: "Committed[Any]") -> str | None:
    """What a committed request changed; None if it is not printed."""
    resource = request.resource
    if (
        resource.prefix in NOT_PRINTED
        or not committed.changes
        or (resource.plural == "nodes" and request.subresource == "status")
    ):
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
        case (("update" | "patch"), "status"):
            words = f"reports {name}{_state(obj)}"
        case (("update" | "patch"), "scale"):
            words = f"scales {name} to {obj.spec.replicas}"
        case "delete" | "deletecollection", _:
            words = f"deletes {name}" if change.record is None else f"marks {name} for deletion"
        case _:
            words = (
                f"changes {name}"
                if change.record is not None
                else f"removes the last finalizer of {name}, which is deleted"
            )
    because = f", because {request.because}" if request.because else ""
    return f"{short_name(request.user.name)} {words}{because}  [revision {committed.revision}]"


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


class Names:
    """The names of pods and containers, since operations have only their uids and ids.

    The id of a container is recorded when it is started: containers of a pod are started in the
    order in which they were created. Older pods and containers have no name here.
    """

    def __init__(self) -> None:
        self._pods: dict[str, str] = {}
        self._made: dict[str, list[str]] = {}
        self._containers: dict[str, dict[str, str]] = {}  # of each pod, by id

    def record(self, operation: Operation) -> None:
        """Record the names in this operation."""
        match operation:
            case RunPodSandbox(config):
                self._pods[config.pod_uid] = f"{config.namespace}/{config.name}"
            case CreateContainer(_, config):
                self._pods[config.pod_uid] = f"{config.namespace}/{config.pod_name}"
                self._made.setdefault(config.pod_uid, []).append(config.name)
            case StartContainer(uid, container_id) if container_id not in self._containers.get(
                uid, {}
            ) and self._made.get(uid):
                self._containers.setdefault(uid, {})[container_id] = self._made[uid].pop(0)
            case RemoveContainer(uid, container_id):
                self._containers.get(uid, {}).pop(container_id, None)

    def pod(self, uid: str) -> str:
        return self._pods.get(uid, uid)

    def container(self, uid: str, container_id: str) -> str:
        """The container's name with its pod's."""
        return (
            f"{self._containers.get(uid, {}).get(container_id, container_id[:12])} of pod "
            f"{self.pod(uid)}"
        )

    def forget(self, uid: str) -> None:
        """Remove the names of a deleted pod."""
        for known in (self._pods, self._made, self._containers):
            known.pop(uid, None)


def operation_sentence(node: str, operation: Operation, names: Names) -> str | None:
    """What a node's runtime executes; None if it is not printed."""
    match operation:
        case RunPodSandbox(config):
            words = (
                "starts the pause container that holds the network of pod "
                f"{config.namespace}/{config.name}"
            )
        case PullImage(uid, image, policy):
            words = f"requests image {image} for pod {names.pod(uid)} (pull policy {policy})"
        case CreateContainer(_, config):
            again = f", for the {_ordinal(config.attempt + 1)} time" if config.attempt else ""
            words = (
                f"creates container {config.name} in the network of pod "
                f"{config.namespace}/{config.pod_name}{again}"
            )
        case StartContainer(uid, container_id):
            words = f"starts container {names.container(uid, container_id)}"
        case UpdateContainerResources(uid, container_id):
            words = f"gives container {names.container(uid, container_id)} other resources"
        case StopContainer(uid, container_id, grace):
            words = (
                f"stops container {names.container(uid, container_id)}: SIGTERM now, "
                f"SIGKILL if it still runs after {grace} s"
            )
        case RemovePodSandbox(uid):
            words = f"removes the pause container and the network of pod {names.pod(uid)}"
        case _:
            return None
    return f"kubelet of {node} {words}"


def _ordinal(number: int) -> str:
    ending = "th" if number // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _count(number: int, noun: str) -> str:
    """The number with the noun, whose plural is regular."""
    return (
        f"{number} {noun}"
        if number == 1
        else f"{number} {noun}{'es' if noun.endswith('s') else 's'}"
    )


def rules_sentence(node: str, rules: RuleSet) -> str:
    """The rules that a node's proxy has written; each port of a service has its own address."""
    open_rules = [
        rule
        for of_service in rules.services.values()
        for rule in of_service
        if rule.targets or rule.inside
    ]
    targets = {target for rule in open_rules for target in (*rule.targets, *rule.inside)}
    if not open_rules:
        return f"proxy of {node} has no service with endpoints"
    return (
        f"proxy of {node} forwards {_count(len(open_rules), 'service address')} to "
        f"{_count(len(targets), 'endpoint')}"
    )


class Storyteller:
    """Prints sentences with the time since the start."""

    def __init__(
        self, now: Callable[[], Instant], write_line: Callable[[str], None] = print
    ) -> None:
        self._now = now
        self._write_line = write_line
        self._start = now()
        self._last = ""
        self._names = Names()
        write_line(f"The story begins at {timestamp(self._start)}.")

    def committed(self, request: Request, committed: "Committed[Any]") -> None:
        self.print_line(sentence(request, committed))

    def operated(self, node: str, operation: Operation) -> None:
        self._names.record(operation)
        self.print_line(operation_sentence(node, operation, self._names))
        if isinstance(operation, RemovePodSandbox):
            self._names.forget(operation.pod_uid)

    def programmed(self, node: str, rules: RuleSet) -> None:
        self.print_line(rules_sentence(node, rules))

    def print_line(self, words: str | None) -> None:
        """Print a line, unless it is equal to the last one."""
        if words and words != self._last:
            self._last = words
            self._write_line(f"{(self._now() - self._start) / SECOND:8.3f} s  {words}")
