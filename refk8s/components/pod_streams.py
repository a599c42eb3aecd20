"""Connections between a client and the containers of a pod: logs, exec, attach, port-forward.

Rules STREAM-1, STREAM-7, STREAM-8. core/apiserver/pod_log.py, pod_exec.py and pod_forward.py read
the options and choose the container. The bytes come from the kubelet of the pod's node, which runs
in this process or is reached over HTTPS.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from refk8s.components.apiserver import ApiServer
from refk8s.components.asgi import Receive, Scope, Send
from refk8s.components.client.exchange import Streams
from refk8s.components.kubelet.local import LocalKubelet
from refk8s.components.stream_handlers import Connector, serve_forward, serve_log, serve_session
from refk8s.core.api import status
from refk8s.core.api.core_v1 import Node, Pod
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import NODES
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver import read
from refk8s.core.apiserver.calls import ServicePort
from refk8s.core.apiserver.outcome import Connect
from refk8s.core.apiserver.pod_exec import compute_exec_options
from refk8s.core.apiserver.pod_log import check_scheduled, choose_container, compute_log_options
from refk8s.core.ports import Kubelet, Nodes, StreamFailed

if TYPE_CHECKING:
    from refk8s.components.kubelet.remote import RemoteKubelet
    from refk8s.components.kubelet.server import KubeletServer
    from refk8s.components.proxy import Proxy

FindRemote = Callable[[Node], Awaitable["RemoteKubelet"]]
"""The kubelet of a node in another process; raises StreamFailed if it cannot be reached."""


class PodStreams:
    """Handles `Connect` requests. An answer that is not a stream is returned as a Response."""

    def __init__(
        self, api: ApiServer, nodes: Nodes | None, find_remote: FindRemote | None = None
    ) -> None:
        self._api = api
        self._nodes = nodes
        self._find_remote = find_remote
        self.local: KubeletServer | None = None
        """Answers what is asked of the nodes of this process."""
        self._proxied: Proxy | None = None

    async def reach(self, port: ServicePort) -> Streams:
        """A connection to a ready endpoint of a service (CALL-4). Raises ApiError, StreamFailed and
        OSError."""
        from refk8s.components.destinations import Destinations  # Few runs need it.

        return await Destinations(self._api, self._kubelet).reach(port)

    async def __call__(
        self, outcome: Connect, scope: Scope, receive: Receive, send: Send
    ) -> Response | None:
        request = outcome.request
        try:
            if request.subresource == "proxy":
                return await self._proxy(request, scope, receive, send)
            if request.resource.plural == "pods":
                if request.subresource == "log":
                    return await self._log(request, scope, receive, send)
                if request.subresource in ("exec", "attach"):
                    return await self._session(request, scope, receive, send)
                if request.subresource == "portforward":
                    return await self._forward(request, scope, receive, send)
        except ApiError as error:
            return Response(error.status.code or 500, error.status)
        except StreamFailed as error:
            return Response(500, status.internal_error(str(error)))
        except OSError:
            return None  # The client has left.
        words = f"{request.subresource} of {request.resource.plural} is not served"
        return Response(501, status.failure(501, "NotImplemented", words))

    async def _proxy(
        self, request: Request, scope: Scope, receive: Receive, send: Send
    ) -> Response | None:
        if self._proxied is None:
            from refk8s.components.proxy import Proxy  # Few runs need it.

            self._proxied = Proxy(self._api, self._kubelet, self._find_remote)
            self._proxied.local = self.local
        return await self._proxied(request, scope, receive, send)

    def _pod(self, request: Request) -> Pod:
        pod: Pod = read.find(request, self._api.store).value
        return pod

    async def _kubelet(self, pod: Pod) -> Kubelet:
        """The kubelet of the pod's node (PROC-4, STREAM-8)."""
        name = check_scheduled(pod)
        found = self._nodes.containers_of(name) if self._nodes is not None else None
        if found is not None:
            return LocalKubelet(found)
        node = self._api.store.get(NODES.key("", name))
        if node is None:
            raise ApiError(status.not_found(NODES, name))
        if self._find_remote is None:
            raise StreamFailed(f"this server reaches no kubelet of another process: node {name}")
        return await self._find_remote(node.value)

    async def _session(
        self, request: Request, scope: Scope, receive: Receive, send: Send
    ) -> Response | None:
        options = compute_exec_options(request.body.parameters, request.subresource)
        pod = self._pod(request)
        name = choose_container(pod, options.container)
        kubelet = await self._kubelet(pod)
        run = kubelet.execute if request.subresource == "exec" else kubelet.attach
        await serve_session(scope, receive, send, options, partial(run, pod, name, options))
        return None

    async def _forward(
        self, request: Request, scope: Scope, receive: Receive, send: Send
    ) -> Response | None:
        pod = self._pod(request)
        kubelet = await self._kubelet(pod)

        async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await kubelet.connect(pod, port)

        async def prepare() -> Connector:
            await kubelet.check(pod)
            return connect

        await serve_forward(scope, receive, send, request.name, request.body.parameters, prepare)
        return None

    async def _log(
        self, request: Request, scope: Scope, receive: Receive, send: Send
    ) -> Response | None:
        pod = self._pod(request)
        options = compute_log_options(
            dict(reversed(request.body.parameters)), request.name, self._api.clock.now()
        )
        container = choose_container(pod, options.container)
        if not pod.spec.node_name:
            await _answer_nothing(send)
            return None
        kubelet = await self._kubelet(pod)

        async def open_log() -> AsyncGenerator[bytes, None]:
            return await kubelet.log(pod, container, options)

        await serve_log(scope, receive, send, open_log)
        return None


async def _answer_nothing(send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})
