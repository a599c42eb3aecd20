"""/healthz, /livez and /readyz. Rule HTTP-14.

Source: Kubernetes documentation, "Kubernetes API health endpoints".
"""

from collections.abc import Callable, Mapping

from refk8s.core.api import status
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.respond import Reply

HEALTH_PATHS = ("healthz", "livez", "readyz")
TEXT = "text/plain; charset=utf-8"

Checks = Callable[[], Mapping[str, str]]
"""The checks by name, in order, each with the reason of its failure, or "" if it passes. `shutdown`
counts for readiness only."""


def no_checks() -> Mapping[str, str]:
    """The checks of a server that checks nothing."""
    return {"ping": "", "log": "", "etcd": "", "shutdown": ""}


def health(
    method: str, path: str, parameters: tuple[tuple[str, str], ...], checks: Checks
) -> Reply:
    """200 if every check passes that counts for this path and is not excluded, else 500 with the
    names of the checks that fail."""
    kind, _, name = path.strip("/").partition("/")
    if method not in ("GET", "HEAD"):
        raise ApiError(status.method_not_allowed())
    found = {
        check: wrong for check, wrong in checks().items() if check != "shutdown" or kind == "readyz"
    }
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
