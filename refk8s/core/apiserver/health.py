"""/healthz, /livez and /readyz. Rule HTTP-14.

Source: Kubernetes documentation, "Kubernetes API health endpoints".
"""

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import parse_qs

from refk8s.core.api import status
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.respond import Reply

HEALTH_PATHS = ("healthz", "livez", "readyz")
TEXT = "text/plain; charset=utf-8"

Checks = Callable[[], Mapping[str, str]]
"""The checks by name, in order, each with the reason of its failure, or "" if it passes."""

OF_READINESS: Final = frozenset(("etcd-readiness", "informer-sync", "shutdown"))
"""The checks that count for readiness only."""
OBJECTS, DEFINITIONS, SERVICE = "objects", "definitions", "service"
"""The parts of the start of an API server: the objects that every cluster has, the controllers of
definitions and APIServices, and the service default/kubernetes."""
_HOOKS: Final = (
    ("poststarthook/priority-and-fairness-config-consumer", OBJECTS),
    ("poststarthook/priority-and-fairness-filter", OBJECTS),
    ("poststarthook/start-apiextensions-informers", DEFINITIONS),
    ("poststarthook/start-apiextensions-controllers", DEFINITIONS),
    ("poststarthook/crd-informer-synced", DEFINITIONS),
    ("poststarthook/start-system-namespaces-controller", OBJECTS),
    ("poststarthook/start-cluster-authentication-info-controller", OBJECTS),
    ("poststarthook/rbac/bootstrap-roles", OBJECTS),
    ("poststarthook/scheduling/bootstrap-system-priority-classes", OBJECTS),
    ("poststarthook/priority-and-fairness-config-producer", OBJECTS),
    ("poststarthook/bootstrap-controller", SERVICE),
    ("poststarthook/apiservice-status-local-available-controller", DEFINITIONS),
    ("poststarthook/apiservice-status-remote-available-controller", DEFINITIONS),
    ("poststarthook/apiservice-registration-controller", DEFINITIONS),
    ("poststarthook/apiservice-discovery-controller", DEFINITIONS),
    ("poststarthook/kube-apiserver-autoregistration", DEFINITIONS),
    ("autoregister-completion", OBJECTS),
)
"""Upstream's checks of what an API server does after its start, of the parts that this one has."""


def named_checks(
    store_problem: str, is_stopping: bool, parts: Mapping[str, Callable[[], bool]]
) -> dict[str, str]:
    """The checks of an API server. `parts`: whether each part of its start has finished."""
    finished = {part: has_finished() for part, has_finished in parts.items()}
    found = {"ping": "", "log": "", "etcd": store_problem, "etcd-readiness": store_problem}
    if DEFINITIONS in finished:
        found["informer-sync"] = "" if finished[DEFINITIONS] else "not synced"
    for name, part in _HOOKS:
        if part in finished:
            found[name] = "" if finished[part] else "not finished"
    found["shutdown"] = "the server is stopping" if is_stopping else ""
    return found


def no_checks() -> Mapping[str, str]:
    """The checks of a server that checks nothing."""
    return named_checks("", False, {})


def _counted(kind: str, checks: Mapping[str, str]) -> dict[str, str]:
    """The checks that count for this path."""
    return {
        check: wrong
        for check, wrong in checks.items()
        if check not in OF_READINESS or kind == "readyz"
    }


def checks_of(kind: str, query: str, checks: Mapping[str, str]) -> dict[str, str]:
    """The checks that a request for `kind` makes: those that it does not exclude (HTTP-31)."""
    excluded = set(parse_qs(query).get("exclude", ()))
    found = _counted(kind, checks)
    return {check: wrong for check, wrong in found.items() if check not in excluded}


def health(
    method: str, path: str, parameters: tuple[tuple[str, str], ...], checks: Checks
) -> Reply:
    """200 if every check passes that counts for this path and is not excluded, else 500 with the
    names of the checks that fail."""
    kind, _, name = path.strip("/").partition("/")
    if method not in ("GET", "HEAD"):
        raise ApiError(status.method_not_allowed())
    found = _counted(kind, checks())
    if name:
        if name not in found:
            return Reply(404, b"404 page not found\n", TEXT)
        wrong = found[name]
        return (
            Reply(500, f"internal server error: {wrong}\n".encode(), TEXT)
            if wrong
            else Reply(200, b"ok", TEXT)
        )
    excluded = {value for key, value in parameters if key == "exclude"}
    lines = []
    for check, wrong in found.items():
        if check in excluded:
            lines.append(f"[+]{check} excluded: ok")
        else:
            lines.append(f"[-]{check} failed: reason withheld" if wrong else f"[+]{check} ok")
    if unknown := sorted(excluded - set(found)):
        quoted = ",".join(f'"{one}"' for one in unknown)
        lines.append(f"warn: some health checks cannot be excluded: no matches for {quoted}")
    if any(wrong and check not in excluded for check, wrong in found.items()):
        return Reply(500, "\n".join([*lines, f"{kind} check failed\n"]).encode(), TEXT)
    if any(key == "verbose" for key, _ in parameters):
        return Reply(200, "\n".join([*lines, f"{kind} check passed\n"]).encode(), TEXT)
    return Reply(200, b"ok", TEXT)
