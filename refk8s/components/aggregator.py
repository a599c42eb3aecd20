"""Passes requests on to other API servers, and their answers back. Rules APISVC-5 to APISVC-8
(spec/api_services.md).

core/apiserver/aggregation decides where a request goes and what its head is. Bodies, watches and
changed protocols are streamed in both directions, and no redirect is followed.
"""

from refk8s.components.asgi import Receive, Scope, Send
from refk8s.components.client.exchange import BadAnswer, ask
from refk8s.components.outgoing_calls import OutgoingCalls, words_of
from refk8s.components.proxy import (
    PROXIED_MAX,
    ClientBody,
    is_chunked,
    relay,
    splice,
    wanted,
    while_present,
)
from refk8s.core.api import status
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.aggregation.component import UNREACHABLE
from refk8s.core.apiserver.aggregation.forwarding import REDIRECTED, compute_head, is_redirect
from refk8s.core.apiserver.http import Forward, text_reply
from refk8s.core.apiserver.respond import Reply
from refk8s.core.ports import StreamFailed

ANSWER_SECONDS = 60.0
"""How long another API server may take to begin its answer."""


class _Refused(Exception):
    """This server answers itself."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


class Aggregator:
    """The requests that one API server passes on to others."""

    def __init__(self, outgoing: OutgoingCalls) -> None:
        self._outgoing = outgoing
        self._open = 0

    async def __call__(
        self, forward: Forward, scope: Scope, receive: Receive, send: Send
    ) -> Reply | None:
        """Pass the request on. An answer of this server itself is returned."""
        if self._open >= PROXIED_MAX:
            raise ApiError(status.too_many_requests("too many requests are being passed on"))
        connection = scope.get("connection")
        if connection is not None:
            connection.deadline = None  # a body may take as long as the other server reads it
            connection.patient = True
        self._open += 1
        try:
            body = ClientBody(receive, is_chunked(scope))
            await while_present(self._pass(forward, scope, body, send), body)
        except _Refused as refused:
            return refused.reply
        except ApiError as error:
            return text_reply(error.status.code or 503, error.status.message or "")
        finally:
            self._open -= 1
        return None

    async def _pass(self, forward: Forward, scope: Scope, body: ClientBody, send: Send) -> None:
        remote = forward.remote
        upgrade = wanted(scope)
        target = scope["raw_path"].decode("latin-1")
        if scope["query_string"]:
            target += f"?{scope['query_string'].decode('latin-1')}"
        client = (scope.get("client") or ("",))[0]
        try:
            head = compute_head(
                remote, forward.user, scope["method"], target, scope["headers"], client, upgrade
            )
            streams = await self._outgoing.connect_to(remote)
            seconds = None if upgrade else ANSWER_SECONDS
            answer = await ask(streams, head, None if upgrade else body.parts(), seconds)
        except ApiError as error:  # the service has no endpoint
            raise _Refused(text_reply(503, UNREACHABLE + (error.status.message or ""))) from None
        except TimeoutError:
            url = f"{remote.host}:{remote.service.port}"
            raise _Refused(text_reply(503, f"{UNREACHABLE}dial tcp {url}: i/o timeout")) from None
        except (OSError, StreamFailed, ValueError) as error:
            words = str(error) if isinstance(error, BadAnswer) else words_of(error, remote.url(""))
            raise _Refused(text_reply(503, UNREACHABLE + words)) from None
        try:
            if answer.code == 101 and upgrade:
                await splice(answer, scope)
            elif is_redirect(answer.code, answer.header(b"location")):
                raise _Refused(text_reply(502, REDIRECTED))
            else:
                await relay(answer, scope, send)
        finally:
            answer.close()


def is_long(forward: Forward, upgrade: bytes) -> bool:
    """Whether the request lasts until its client leaves, so that it is not in flight."""
    return bool(upgrade) or (forward.request is not None and forward.request.verb == "watch")


__all__ = ["Aggregator", "is_long"]
