"""Which container's log a request asks for, and which part of it. Rules RT-12, RT-13 (spec/runtime.md).

| the container's newest attempt | the log of |
|---|---|
| runs, or has ended | it; with `previous` the attempt before it |
| waits for its restart | the attempt before |
| never ran | none: 400, with why it waits |

Source: Kubernetes API reference, "read log of the specified Pod"; kubectl reference, "kubectl logs".
"""

from collections.abc import Mapping
from typing import Any

from refk8s.core.api import status
from refk8s.core.api.core_v1 import ContainerStatus, Pod
from refk8s.core.api.resources import PODS
from refk8s.core.api.status import ApiError, Cause
from refk8s.core.context import SECOND, Instant, parse_timestamp
from refk8s.core.value import Value

STREAMS = {"All": (True, True), "Stdout": (True, False), "Stderr": (False, True)}
WAITING_WORDS = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}


class LogOptions(Value, frozen=True):
    """Which part of a log: everything, where nothing else is said. `since` is an instant, `tail_lines` and `limit_bytes` -1 mean all."""

    container: str = ""
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    since: Instant = 0
    tail_lines: int = -1
    limit_bytes: int = -1
    stdout: bool = True
    stderr: bool = True


def compute_log_options(parameters: Mapping[str, str], name: str, now: Instant) -> LogOptions:
    """The options of a request's parameters; ApiError 422 where they make no sense (RT-13)."""
    causes: list[Cause] = []
    seconds = _number(parameters, "sinceSeconds", 1, causes)
    since = 0
    moment = parameters.get("sinceTime", "")
    if moment and seconds is not None:
        causes.append(Cause(status.FORBIDDEN, "sinceSeconds", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    elif moment:
        try:
            since = parse_timestamp(moment)
        except ValueError:
            raise ApiError(status.bad_request(f"sinceTime {status.show(moment)} is no RFC 3339 time")) from None
    elif seconds is not None:
        since = max(1, now - seconds * SECOND)
    tail = _number(parameters, "tailLines", 0, causes)
    limit = _number(parameters, "limitBytes", 1, causes)
    stream = parameters.get("stream", "All")
    if stream not in STREAMS:
        causes.append(Cause(status.NOT_SUPPORTED, "stream", 'supported values: "All", "Stderr", "Stdout"', stream))
    if causes:
        raise ApiError(status.invalid(PODS, name, causes))
    stdout, stderr = STREAMS[stream]
    return LogOptions(
        container=parameters.get("container", ""),
        follow=_flag(parameters, "follow"),
        previous=_flag(parameters, "previous"),
        timestamps=_flag(parameters, "timestamps"),
        since=since,
        tail_lines=-1 if tail is None else tail,
        limit_bytes=-1 if limit is None else limit,
        stdout=stdout,
        stderr=stderr,
    )


def _flag(parameters: Mapping[str, str], name: str) -> bool:
    """As upstream reads it: there, and neither "0" nor "false"."""
    return name in parameters and parameters[name].lower() not in ("0", "false")


def _number(parameters: Mapping[str, str], name: str, least: int, causes: list[Cause]) -> int | None:
    text = parameters.get(name, "")
    if not text:
        return None
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise ApiError(status.bad_request(f"{name} {status.show(text)} is no whole number"))
    number = int(text)
    if number < least:
        causes.append(Cause(status.INVALID, name, f"must be greater than or equal to {least}", number))
    return number


def choose_container(pod: Pod, named: str) -> str:
    """The container that is meant: the one named, or the only one. ApiError 400 where there is none of the name, or several."""
    name = pod.metadata.name
    regular = [container.name for container in pod.spec.containers]
    inits = [container.name for container in pod.spec.init_containers or ()]
    others = [container.name for container in pod.spec.ephemeral_containers or ()]
    if not named:
        if len(regular) == 1:
            return regular[0]
        words = f"a container name must be specified for pod {name}, choose one of: [{' '.join(regular)}]"
        if inits:
            words += f" or one of the init containers: [{' '.join(inits)}]"
        raise ApiError(status.bad_request(words))
    if named not in (*regular, *inits, *others):
        raise ApiError(status.bad_request(f"container {named} is not valid for pod {name}"))
    return named


def choose_log(pod: Pod, container: str, previous: bool) -> str:
    """The runtime's id of the attempt whose log is meant; ApiError 400 where there is none (RT-12)."""
    name = pod.metadata.name
    found = find_status(pod, container)
    last = _ended_id(found.last_state.terminated) if found is not None and found.last_state is not None else ""
    if previous:
        if not last:
            raise ApiError(status.bad_request(f'previous terminated container "{container}" in pod "{name}" not found'))
        return last
    state = found.state if found is not None else None
    if found is not None and state is not None and (state.running is not None or state.terminated is not None):
        current = _ended_id(state.terminated) or _bare(found.container_id)
        if current:
            return current
    if last:
        return last
    waiting = state.waiting.reason if state is not None and state.waiting is not None and state.waiting.reason else "ContainerCreating"
    words = WAITING_WORDS.get(waiting, waiting)
    raise ApiError(status.bad_request(f'container "{container}" in pod "{name}" is waiting to start: {words}'))


def find_status(pod: Pod, container: str) -> ContainerStatus | None:
    """What the pod's status says of a container."""
    listed = (pod.status.container_statuses, pod.status.init_container_statuses, pod.status.ephemeral_container_statuses)
    return next((found for statuses in listed for found in statuses or () if found.name == container), None)


def running_container(pod: Pod, named: str) -> str:
    """The runtime's id of the running container that is meant, for exec and attach; ApiError 400 where it does not run."""
    container = choose_container(pod, named)
    found = find_status(pod, container)
    if found is None or found.state is None or found.state.running is None or not found.container_id:
        raise ApiError(status.bad_request(f'container "{container}" in pod "{pod.metadata.name}" is not running'))
    return _bare(found.container_id)


def _ended_id(terminated: Any) -> str:
    return _bare(terminated.container_id) if terminated is not None else ""


def _bare(id: str | None) -> str:
    """An id without the name of its runtime."""
    return (id or "").partition("://")[2]
