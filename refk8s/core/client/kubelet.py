"""The requests to a kubelet's port: their paths and queries, and where the kubelet of a node is.
Rules STREAM-8, STREAM-9.

The API server writes these paths and the kubelet reads them, so both directions are here. Source:
Kubernetes documentation, "Kubelet authentication/authorization" (paths and attributes), "Ports and
Protocols"; Kubernetes API reference, NodeStatus.
"""

import re
from collections.abc import Iterable
from urllib.parse import quote, unquote, urlencode

from refk8s.core.api.addresses import is_routable
from refk8s.core.api.core_v1 import Node
from refk8s.core.context import micro_timestamp
from refk8s.core.ports import ExecOptions, LogOptions
from refk8s.core.value import Value

TO_ADDRESS = ("to", "address")
"""The parameter of a port-forward to the pod's address instead of its loopback device; ours."""
LOGS, EXEC, ATTACH, FORWARD = "containerLogs", "exec", "attach", "portForward"
DEFAULT_PORT = 10250
CONTAINER = "container"
"""The kind in the details of a Status that says that the container does not run."""
ADDRESS_TYPES = ("InternalIP", "ExternalIP")
"""The addresses of a node at which its kubelet is reached, in this order."""
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_UID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
_OPTIONS_OF_EXEC = {"input": "stdin", "output": "stdout", "error": "stderr"}
"""The kubelet's names of the streams, and those of the API server."""


class PodPath(Value, frozen=True):
    """A path that names a pod, or one of its containers. `action` is one of the four above."""

    action: str
    namespace: str
    pod: str
    uid: str = ""
    container: str = ""


def write_path(path: PodPath) -> str:
    """The path, percent-encoded. That of a log has no uid, as upstream."""
    parts = [path.action, path.namespace, path.pod]
    if path.uid and path.action != LOGS:
        parts.append(path.uid)
    if path.action != FORWARD:
        parts.append(path.container)
    return "/" + "/".join([quote(part, safe="") for part in parts])


def read_path(path: str) -> PodPath | None:
    """The pod and the container of a percent-encoded path; None for any other path. No part is
    empty, and none has a slash or two dots, whatever the encoding."""
    parts = [unquote(part, errors="replace") for part in path.split("/")[1:]]
    match parts:
        case [action, namespace, pod, container] if action == LOGS:
            uid = ""
        case [action, namespace, pod, uid, container] if action in (EXEC, ATTACH):
            pass
        case [action, namespace, pod, container] if action in (EXEC, ATTACH):
            uid = ""
        case [action, namespace, pod, uid] if action == FORWARD:
            container = ""
        case [action, namespace, pod] if action == FORWARD:
            uid = container = ""
        case _:
            return None
    names = (namespace, pod, *((container,) if action != FORWARD else ()))
    if not all(_NAME.fullmatch(name) and ".." not in name for name in names):
        return None
    if uid and not (_UID.fullmatch(uid) and ".." not in uid):
        return None
    return PodPath(action, namespace, pod, uid, container)


def write_log_query(options: LogOptions, uid: str) -> str:
    """The query for a part of a log. `uid` is ours: upstream's kubelet takes any pod of the
    name."""
    values: dict[str, str] = {"uid": uid} if uid else {}
    for name, is_set in (
        ("follow", options.follow),
        ("previous", options.previous),
        ("timestamps", options.timestamps),
    ):
        if is_set:
            values[name] = "true"
    if options.since:
        values["sinceTime"] = micro_timestamp(options.since)
    if options.tail_lines >= 0:
        values["tailLines"] = str(options.tail_lines)
    if options.limit_bytes >= 0:
        values["limitBytes"] = str(options.limit_bytes)
    if options.stdout != options.stderr:
        values["stream"] = "Stdout" if options.stdout else "Stderr"
    return urlencode(values)


def write_exec_query(options: ExecOptions) -> str:
    """The query for exec and attach, with the kubelet's names of the streams."""
    values = [("command", word) for word in options.command]
    for name, is_set in (
        ("input", options.stdin),
        ("output", options.stdout),
        ("error", options.stderr),
        ("tty", options.tty),
    ):
        if is_set:
            values.append((name, "1"))
    return urlencode(values)


def exec_parameters(parameters: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The parameters of a kubelet's exec or attach with the API server's names of the streams."""
    return [
        (_OPTIONS_OF_EXEC.get(name, name), value)
        for name, value in parameters
        if name in (*_OPTIONS_OF_EXEC, "command", "tty")
    ]


_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_SUBRESOURCES = {"stats": "stats", "metrics": "metrics", "healthz": "healthz", "pods": "pods"}


def compute_attributes(method: str, path: str) -> tuple[str, str]:
    """(verb, subresource of nodes) for the authorization of a request to a kubelet."""
    first = unquote(path, errors="replace").split("/")[1:2]
    return _VERBS.get(method, "get"), _SUBRESOURCES.get(first[0] if first else "", "proxy")


class Unreachable(ValueError):
    """Why the kubelet of a node cannot be reached, in one line."""


def find_kubelet(node: Node) -> tuple[str, int]:
    """(address, port) of the node's kubelet. Only an IP address is used, and none that no kubelet
    can have: link-local, multicast or unspecified. Raises Unreachable."""
    name = node.metadata.name
    reported = node.status
    endpoints = reported.daemon_endpoints if reported is not None else None
    endpoint = endpoints.kubelet_endpoint if endpoints is not None else None
    port = endpoint.port if endpoint is not None else 0
    if not port or not 0 < port < 1 << 16:
        raise Unreachable(f"node {name} reports no port of its kubelet")
    listed = (reported.addresses if reported is not None else None) or ()
    for type in ADDRESS_TYPES:
        for one in listed:
            if one.type == type and is_routable(one.address or ""):
                return str(one.address), port
    raise Unreachable(f"node {name} reports no address of its kubelet")
