"""Selects the container whose log is requested, its attempt, and the part of the log. Rules RT-12,
RT-13 (spec/runtime.md), STREAM-1 (spec/streams.md).

| the container's newest attempt | the log of |
|---|---|
| runs, or has ended | it; with `previous` the attempt before it |
| waits for its restart | the attempt before it |
| never ran | none: 400, with the reason why it waits |

The attempts are those that the node's runtime lists for the pod's uid. Clients can write the pod's
status too, so it is used for error messages and never for an id.

Source: Kubernetes API reference, "read log of the specified Pod"; kubectl reference, "kubectl
logs".
"""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from refk8s.core.api import status
from refk8s.core.api.core_v1 import ContainerStatus as ApiContainerStatus
from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.resources import PODS
from refk8s.core.api.status import ApiError, Cause
from refk8s.core.apiserver.parameters import get_number, is_true
from refk8s.core.context import SECOND, Instant, parse_timestamp
from refk8s.core.ports import EXITED, RUNNING, ContainerStatus, LogOptions

LOG_OPTIONS = replace(PODS, kind="PodLogOptions")
"""The kind in the Status of invalid log options."""
STREAMS = {"All": (True, True), "Stdout": (True, False), "Stderr": (False, True)}
WAITING_WORDS = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}


def compute_log_options(parameters: Mapping[str, str], name: str, now: Instant) -> LogOptions:
    """The options of a request. Raises ApiError 400 for one that cannot be parsed, 422 for an
    invalid one (RT-13)."""
    seconds = get_number(parameters, "sinceSeconds")
    tail = get_number(parameters, "tailLines")
    limit = get_number(parameters, "limitBytes")
    moment = _moment(parameters.get("sinceTime", ""))
    causes: list[Cause] = []
    if tail is not None and tail < 0:
        causes.append(
            Cause(status.INVALID, "tailLines", "must be greater than or equal to 0", tail)
        )
    if limit is not None and limit < 1:
        causes.append(Cause(status.INVALID, "limitBytes", "must be greater than 0", limit))
    if seconds is not None and moment is not None:
        causes.append(
            Cause(
                status.FORBIDDEN,
                "",
                "at most one of `sinceTime` or `sinceSeconds` may be specified",
            )
        )
    elif seconds is not None and seconds < 1:
        causes.append(Cause(status.INVALID, "sinceSeconds", "must be greater than 0", seconds))
    stream = parameters.get("stream", "") or "All"
    if stream not in STREAMS:
        causes.append(
            Cause(
                status.NOT_SUPPORTED,
                "stream",
                'supported values: "All", "Stderr", "Stdout"',
                stream,
            )
        )
    elif stream != "All" and tail is not None:
        causes.append(
            Cause(
                status.FORBIDDEN,
                "",
                "`tailLines` and specific `stream` are mutually exclusive for now",
            )
        )
    if causes:
        raise ApiError(status.invalid(LOG_OPTIONS, name, causes))
    since = 0
    if moment is not None:
        since = max(1, moment)
    elif seconds is not None:
        since = max(1, now - seconds * SECOND)
    stdout, stderr = STREAMS[stream]
    return LogOptions(
        container=parameters.get("container", ""),
        follow=is_true(parameters.get("follow")),
        previous=is_true(parameters.get("previous")),
        timestamps=is_true(parameters.get("timestamps")),
        since=since,
        tail_lines=-1 if tail is None else tail,
        limit_bytes=-1 if limit is None else limit,
        stdout=stdout,
        stderr=stderr,
    )


def _moment(text: str) -> Instant | None:
    if not text or text == "null":
        return None
    try:
        return parse_timestamp(text)
    except (ValueError, OverflowError):
        raise ApiError(
            status.bad_request(f"sinceTime {status.show(text)} is no RFC 3339 time")
        ) from None


def choose_container(pod: Pod, named: str) -> str:
    """The named container, or the pod's only one. Raises ApiError 400 if there is none of that
    name, or if there are several and none is named."""
    name = pod.metadata.name
    regular = [container.name for container in pod.spec.containers]
    inits = [container.name for container in pod.spec.init_containers or ()]
    others = [container.name for container in pod.spec.ephemeral_containers or ()]
    if not named:
        if len(regular) == 1:
            return regular[0]
        words = (
            f"a container name must be specified for pod {name}, choose one of: "
            f"[{' '.join(regular)}]"
        )
        if inits:
            words += f" or one of the init containers: [{' '.join(inits)}]"
        raise ApiError(status.bad_request(words))
    if named not in (*regular, *inits, *others):
        raise ApiError(status.bad_request(f"container {named} is not valid for pod {name}"))
    return named


def choose_log(
    pod: Pod, attempts: Sequence[ContainerStatus], container: str, previous: bool
) -> ContainerStatus:
    """The attempt whose log is requested, among those that the runtime lists for this pod. Raises
    ApiError 400 if there is none (RT-12)."""
    name = pod.metadata.name
    ran = sorted(
        [one for one in attempts if one.name == container and one.state in (RUNNING, EXITED)],
        key=_age,
    )
    found = find_status(pod, container)
    waiting = found.state.waiting if found is not None and found.state is not None else None
    # The newest attempt is the current one, unless it has exited and waits for its restart.
    is_current = bool(ran) and (ran[-1].state == RUNNING or waiting is None)
    chosen = ran[:-1] if previous and is_current else ran
    if chosen:
        return chosen[-1]
    if previous:
        raise ApiError(
            status.bad_request(
                f'previous terminated container "{container}" in pod "{name}" not found'
            )
        )
    if found is None:
        raise ApiError(
            status.bad_request(f'container "{container}" in pod "{name}" is not available')
        )
    reason = waiting.reason if waiting is not None and waiting.reason else "ContainerCreating"
    words = WAITING_WORDS.get(reason, reason)
    raise ApiError(
        status.bad_request(f'container "{container}" in pod "{name}" is waiting to start: {words}')
    )


def _age(attempt: ContainerStatus) -> tuple[int, Instant, str]:
    return attempt.attempt, attempt.created_at, attempt.id


def find_status(pod: Pod, container: str) -> ApiContainerStatus | None:
    """The status of a container in the pod's status. Clients can write it, so it is only for
    messages (STREAM-1)."""
    listed = (
        pod.status.container_statuses,
        pod.status.init_container_statuses,
        pod.status.ephemeral_container_statuses,
    )
    return next(
        (found for statuses in listed for found in statuses or () if found.name == container), None
    )


def find_running(attempts: Sequence[ContainerStatus], container: str) -> ContainerStatus | None:
    """The attempt of this container that runs now, for exec and attach (STREAM-1)."""
    running = [one for one in attempts if one.name == container and one.state == RUNNING]
    return max(running, key=_age) if running else None


def check_scheduled(pod: Pod) -> str:
    """The pod's node. Raises ApiError 400 if it has none yet."""
    if not pod.spec.node_name:
        raise ApiError(status.bad_request(f"pod {pod.metadata.name} does not have a host assigned"))
    return pod.spec.node_name
