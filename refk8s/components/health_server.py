"""/healthz, /livez, /readyz and /metrics of a component that runs as a process of its own. Rule
PROC-6 (spec/processes.md)."""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import parse_qsl

import uvicorn

from refk8s.components import certificates
from refk8s.components.asgi import Receive, Scope, Send
from refk8s.components.client.tls import as_file
from refk8s.components.connection import Server
from refk8s.components.exposition import METRICS_TYPE
from refk8s.components.files import CannotRun
from refk8s.components.listening import listen
from refk8s.core.api import status
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.health import HEALTH_PATHS, Checks, health
from refk8s.core.apiserver.http import failure
from refk8s.core.apiserver.respond import Reply
from refk8s.core.client.kubeconfig import Pem

CONNECTIONS_MAX = 64
CLOSING_SECONDS = 0.5


class HealthServer:
    """Serves the health of one process. With TLS the certificate is made at each start."""

    def __init__(self, checks: Checks, metrics: Callable[[], bytes], is_tls: bool) -> None:
        self._checks = checks
        self._metrics = metrics
        self._is_tls = is_tls
        self._server: Server | None = None
        self.url = ""

    def start(self, bind: str, port: int | None, default_port: int, flag: str) -> None:
        """Listen at this port; without one at the default port, or at a free one if that is in use.
        Raises CannotRun."""
        try:
            listener = listen(bind, default_port if port is None else port)
        except CannotRun as error:
            if port is not None:
                raise CannotRun(str(error).replace("--port", flag)) from None
            listener = listen(bind, 0)
        config = uvicorn.Config(
            self,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
        )
        config.load()
        if self._is_tls:
            config.ssl = _self_signed()
        self._server = Server(config, CONNECTIONS_MAX)
        self._server.start()
        self._server.listen(listener)
        host, number = listener.getsockname()[:2]
        self.url = (
            f"http{'s' if self._is_tls else ''}://{f'[{host}]' if ':' in host else host}:{number}"
        )

    async def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            await self._server.close(CLOSING_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        reply = self._reply(scope["method"], scope["path"], scope["query_string"].decode("latin-1"))
        headers = [*reply.headers(), (b"content-length", str(reply.length).encode())]
        await send({"type": "http.response.start", "status": reply.code, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else reply.content
        await send({"type": "http.response.body", "body": body})

    def _reply(self, method: str, path: str, query: str) -> Reply:
        try:
            if path.split("/")[1] in HEALTH_PATHS:
                return health(method, path, tuple(parse_qsl(query, True)), self._checks)
            if method not in ("GET", "HEAD"):
                raise ApiError(status.method_not_allowed())
        except ApiError as error:
            return failure(error)
        if path == "/metrics":
            return Reply(200, self._metrics(), METRICS_TYPE)
        return Reply(404, b"404 page not found\n", "text/plain; charset=utf-8")


def _self_signed() -> ssl.SSLContext:
    key = certificates.make_key()
    certificate = certificates.make_self_signed(key, "refk8s", datetime.now(UTC))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with as_file(Pem(content=certificate)) as one, as_file(Pem(content=key)) as other:
        context.load_cert_chain(one, other)
    return context
