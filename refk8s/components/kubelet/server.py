"""The HTTPS port of a kubelet process: logs, exec, attach, port-forward, pods and health. Rules
STREAM-8, STREAM-9, STREAM-10.

A process with several simulated nodes has one port for all of them; the header Host has the name
of the node. Every request is authenticated by a client certificate and authorized before anything
else answers.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl

import msgspec

from refk8s.components.asgi import Receive, Scope, Send
from refk8s.components.exposition import METRICS_TYPE
from refk8s.components.kubelet.local import LocalKubelet
from refk8s.components.kubelet.stats import Stats
from refk8s.components.stream_handlers import Connector, serve_forward, serve_log, serve_session
from refk8s.components.websocket import refusing
from refk8s.core.api import status
from refk8s.core.api.codec import encode
from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.meta_v1 import Status, StatusDetails
from refk8s.core.api.resources import PODS
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import User
from refk8s.core.apiserver.authenticate import user_of_subject
from refk8s.core.apiserver.pod_exec import compute_exec_options
from refk8s.core.apiserver.pod_log import choose_container, compute_log_options
from refk8s.core.client.kubelet import (
    ATTACH,
    CONTAINER,
    EXEC,
    FORWARD,
    LOGS,
    TO_ADDRESS,
    PodPath,
    compute_attributes,
    exec_parameters,
    read_path,
)
from refk8s.core.context import Instant
from refk8s.core.kubelet.usage import write_metrics
from refk8s.core.ports import ContainerNotFound, Node, StreamFailed
from refk8s.core.value import Value

if TYPE_CHECKING:
    from refk8s.components.driver import Driver

log = logging.getLogger("refk8s")

JSON, TEXT = "application/json", "text/plain; charset=utf-8"
METHODS = {LOGS: ("GET",), EXEC: ("GET", "POST"), ATTACH: ("GET", "POST"), FORWARD: ("GET", "POST")}


class ServedNode(Value, frozen=True):
    """A node of this process: its streams, and the pods that its kubelet knows."""

    name: str
    kubelet: LocalKubelet
    pods: Callable[[], Mapping[str, Pod]]  # by "namespace/name"
    stats: Stats


def served_nodes(
    drivers: Iterable["Driver"], nodes: Iterable[Node], now: Callable[[], Instant]
) -> dict[str, ServedNode]:
    """The nodes whose kubelets are among these machines."""
    machines = {driver.machine.name: driver for driver in drivers}

    def served(node: Node) -> ServedNode:
        driver = machines[f"kubelet/{node.name}"]

        def pods() -> Mapping[str, Pod]:
            return cast(Mapping[str, Pod], driver.state.view.table(PODS).objects)

        stats = Stats(node.name, node.containers, pods, now)
        return ServedNode(node.name, LocalKubelet(node.containers), pods, stats)

    return {node.name: served(node) for node in nodes}


Page = Callable[[ServedNode], Awaitable[tuple[bytes, str]]]
"""A page without parameters: its content and its type."""
Authorize = Callable[[User, str, str, str], Awaitable[str]]
"""Whether a user may do this: (user, verb, subresource of nodes, node); "" or why not."""


class KubeletServer:
    """The ASGI application behind the port."""

    def __init__(
        self,
        nodes: Mapping[str, ServedNode],
        pages: Mapping[str, Page],
        authorize: Authorize | None,
        now: Callable[[], Instant],
    ) -> None:
        self._nodes = nodes
        self._pages = {
            **pages,
            "/pods": _pods,
            "/pods/": _pods,
            "/stats/summary": _summary,
            "/metrics/resource": _resource_metrics,
            "/healthz": _health,
        }
        self._authorize = authorize
        self._now = now

    def has(self, node: str) -> bool:
        """Whether this node is one of this process."""
        return node in self._nodes

    async def serve_local(
        self, node: str, path: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a request that the API server of this process has authorized (STREAM-11). Raises
        ApiError, StreamFailed."""
        own = {**scope, "raw_path": path.encode("latin-1")}
        await self._answer(self._nodes[node], path, scope["connection"], own, receive, send)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return
        connection = scope["connection"]
        has_begun = False

        async def sending(message: dict[str, Any]) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        answer = refusing(sending) if scope["type"] == "websocket" else sending

        async def refuse(refused: Status) -> None:
            if has_begun:  # the failure of an open stream ends its connection
                connection.transport.abort()
                return
            content = encode(refused) + b"\n"
            await _answer(answer, refused.code or 500, content, JSON)

        try:
            user = _user_of(connection)
            if user is None:
                raise ApiError(status.unauthorized())
            connection.authenticated = True
            await self._serve(user, connection, scope, receive, answer)
        except ContainerNotFound as error:
            details = StatusDetails(kind=CONTAINER)
            await refuse(status.failure(404, "NotFound", str(error), details))
        except ApiError as error:
            await refuse(error.status)
        except StreamFailed as error:
            await refuse(status.internal_error(str(error)))
        except OSError:
            return  # The client has left.
        except Exception:
            log.exception("a request to the kubelet failed: %s", scope["path"])
            await refuse(status.internal_error("the kubelet has logged it"))

    async def _serve(
        self, user: User, connection: Any, scope: Scope, receive: Receive, send: Send
    ) -> None:
        path = scope["raw_path"].decode("latin-1")
        method = scope.get("method", "GET")
        verb, subresource = compute_attributes(method, path)
        node = self._find_node(scope)
        assert self._authorize is not None
        why_not = await self._authorize(user, verb, subresource, node.name if node else "")
        if why_not:
            raise ApiError(status.failure(403, "Forbidden", f"Forbidden ({why_not})"))
        if node is None:
            words = "the header Host does not name a node of this process"
            raise ApiError(status.failure(404, "NotFound", words))
        await self._answer(node, path, connection, scope, receive, send)

    async def _answer(
        self,
        node: ServedNode,
        path: str,
        connection: Any,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        method = scope.get("method", "GET")
        if (place := read_path(path)) is not None and method in METHODS[place.action]:
            connection.patient = True
            await self._stream(node, place, scope, receive, send)
        elif (page := self._pages.get(path)) is not None and scope["type"] == "http":
            if method not in ("GET", "HEAD"):
                raise ApiError(status.method_not_allowed())
            content, kind = await page(node)
            await _answer(send, 200, b"" if method == "HEAD" else content, kind)
        else:
            await _answer(send, 404, b"404 page not found\n", TEXT)

    def _find_node(self, scope: Scope) -> ServedNode | None:
        """The node of the header Host; the only node, whatever the header is."""
        if len(self._nodes) == 1:
            return next(iter(self._nodes.values()))
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        return self._nodes.get(host.decode("latin-1").partition(":")[0].lower())

    async def _stream(
        self, node: ServedNode, place: PodPath, scope: Scope, receive: Receive, send: Send
    ) -> None:
        parameters = tuple(parse_qsl(scope["query_string"].decode("latin-1"), True))
        uid = place.uid or next((value for name, value in parameters if name == "uid"), "")
        pod = node.pods().get(f"{place.namespace}/{place.pod}")
        if pod is None or (uid and pod.metadata.uid != uid):
            raise ApiError(status.not_found(PODS, place.pod))
        kubelet = node.kubelet
        if place.action == LOGS:
            options = compute_log_options(dict(reversed(parameters)), place.pod, self._now())
            container = choose_container(pod, place.container)
            await serve_log(scope, receive, send, partial(kubelet.log, pod, container, options))
        elif place.action == FORWARD:

            async def prepare() -> Connector:
                await kubelet.check(pod)
                return partial(kubelet.dial if TO_ADDRESS in parameters else kubelet.connect, pod)

            await serve_forward(
                scope, receive, send, place.pod, parameters, prepare, is_kubelet=True
            )
        else:
            exec_options = compute_exec_options(exec_parameters(parameters), place.action)
            container = choose_container(pod, place.container)
            run = kubelet.execute if place.action == EXEC else kubelet.attach
            await serve_session(
                scope, receive, send, exec_options, partial(run, pod, container, exec_options),
                is_kubelet=True,
            )  # fmt: skip


async def _pods(node: ServedNode) -> tuple[bytes, str]:
    """/pods: the pods of the node, as a PodList."""
    pods = node.pods()
    items = b",".join([encode(pods[key]) for key in sorted(pods)])
    return b'{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[' + items + b"]}\n", JSON


async def _health(node: ServedNode) -> tuple[bytes, str]:
    """/healthz."""
    return b"ok", TEXT


async def _summary(node: ServedNode) -> tuple[bytes, str]:
    """/stats/summary."""
    return msgspec.json.encode(await node.stats.summary()), JSON


async def _resource_metrics(node: ServedNode) -> tuple[bytes, str]:
    """/metrics/resource."""
    return write_metrics(await node.stats.summary()), METRICS_TYPE


def _user_of(connection: Any) -> User | None:
    """The user of the client's certificate, which the handshake has verified (STREAM-9)."""
    if connection.user is None:
        tls = connection.transport.get_extra_info("ssl_object")
        found = tls.getpeercert() if tls is not None else None
        user = None
        if found:
            subject = [pair for name in found.get("subject", ()) for pair in name]
            user = user_of_subject(subject, tls.getpeercert(binary_form=True))
        connection.user = user or False
    return connection.user or None


async def _answer(send: Send, code: int, content: bytes, kind: str) -> None:
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(content)).encode()),
    ]
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": content})
