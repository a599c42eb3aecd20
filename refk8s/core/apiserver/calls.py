"""Calls to other servers on which the decision of a request depends. Rules CALL-1 to CALL-4
(spec/webhooks.md).

A stage that needs the answer of another server (an admission webhook, a conversion webhook) asks
for it by `ask`. If the answer is not there yet, the decision ends with `Needed`, and its outcome is
`Ask`: the calls, and what is known so far. A driver makes the calls and decides the request again,
with the same time and random values and on the newest state of the store. So a stage is written as
if the answer was always there, nothing waits inside the core, and the state of a request is a
value.

    decide ──> Ask(calls) ──> a driver makes the calls ──> resume(ask, results) ──> Ask, or an outcome
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from refk8s.core.api.request import Request
from refk8s.core.context import SECOND, Context, Instant, SeededChance, format_uid
from refk8s.core.value import Value, evolve, field

if TYPE_CHECKING:
    from refk8s.core.apiserver.exchange import Exchange

REQUEST_SECONDS_MAX: Final = 34
"""How long the calls of one request may take together, as upstream."""
ANSWER_BYTES_MAX: Final = 8 << 20
"""The longest answer of another server: a patch is in Base64, and an object has at most 3 MiB."""
PORT: Final = 443
WARNINGS_MAX: Final = 64
"""The most warnings of other servers in one answer."""
ANNOTATIONS_MAX: Final = 64
QUESTIONS_MAX: Final = 100
"""The most questions that authorizers ask for one request."""
ANNOTATION_BYTES_MAX: Final = 10 << 10
"""The most annotations of other servers in one audit event, and the longest value."""


class ServicePort(Value, frozen=True):
    """A port of a Service as the destination of a call."""

    namespace: str
    name: str
    port: int


class AskedWebhook(Value, frozen=True):
    """The admission webhook of a call. `type`: admit or validating. `fails_closed`: without an
    answer the request is rejected."""

    name: str
    type: str
    operation: str
    version: str
    fails_closed: bool


class Call(Value, frozen=True):
    """One request with a JSON document, or with none, over TLS.

    `id`: equal for two calls of a request only if they ask the same. `url`: with the query; the
    host is the name that the certificate must have. `service`: where the URL leads if it is that of
    a service. `ca_bundle`: PEM certificates of authorities; empty for those of the system.
    `seconds`: how long it may take. A longer answer than `answer_bytes_max` is a failure.
    `content_type`: of the body. `headers`: further ones. `is_verified`: whether the certificate of
    the other server is verified. `is_of_proxy`: whether the connection has this server's
    certificate, by which other API servers believe its headers (APISVC-6). `asked`: the admission
    webhook, if it is one, for metrics.
    """

    id: str
    url: str
    service: ServicePort | None
    ca_bundle: bytes
    body: bytes
    seconds: float
    answer_bytes_max: int = ANSWER_BYTES_MAX
    method: str = "POST"
    content_type: str = "application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    is_verified: bool = True
    is_of_proxy: bool = False
    asked: AskedWebhook | None = None


class Client(Value, frozen=True):
    """Where a webhook is reached, of its clientConfig."""

    url: str
    service: ServicePort | None
    ca_bundle: bytes


def client_of(config: Any) -> Client:
    """The destination of a clientConfig of webhooks, which is valid."""
    service, url = config.service, config.url or ""
    bundle = b64decode(config.ca_bundle or "")
    if service is None:
        return Client(url, None, bundle)
    port, path = service.port or PORT, service.path or ""
    path = path if path.startswith("/") else f"/{path}"
    url = f"https://{service.name}.{service.namespace}.svc:{port}{path}"
    return Client(url, ServicePort(service.namespace, service.name, port), bundle)


class Answered(Value, frozen=True):
    """The answer of the other server: the status code of HTTP and the body."""

    code: int
    body: bytes


class Unanswered(Value, frozen=True):
    """There is no answer; `why` as upstream's client says it."""

    why: str


Result: TypeAlias = Answered | Unanswered


class Question(Value, frozen=True):
    """A question of an authorizer: which webhook is asked, and what (AUTHZ-10)."""

    webhook: str
    text: bytes


class Needed(Exception):
    """These calls must be made, or the question asked, before the decision can go on. No call yet:
    the decision begins again, with a `Calls`."""

    def __init__(self, calls: tuple[Call, ...], question: Question | None = None) -> None:
        super().__init__("calls are needed")
        self.calls = calls
        self.question = question


class Calls(Value, frozen=True, eq=False):
    """The calls of one request so far. `seed`: of its random values, and of the ids of calls.
    `now`: the time of the decision. `until`: when the answer is due. `warnings` and `annotations`
    (of the audit log) collect those of the present decision. `questions`: how many an authorizer
    has asked."""

    seed: bytes
    now: Instant
    until: Instant
    results: Mapping[str, Result] = field(default_factory=dict)
    is_late: bool = False
    warnings: list[str] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)
    questions: int = 0

    def id_of(self, *parts: bytes) -> str:
        """The id of a call, which is a UUID: another one for other parts."""
        digest = blake2b(key=self.seed, digest_size=16)
        for part in parts:
            digest.update(len(part).to_bytes(8) + part)
        return format_uid(digest.digest())

    def warn(self, texts: Sequence[str]) -> None:
        """Keep warnings for the client, up to WARNINGS_MAX."""
        self.warnings.extend(texts[: WARNINGS_MAX - len(self.warnings)])

    def annotate(self, annotations: Mapping[str, str]) -> None:
        """Keep annotations for the audit log, up to ANNOTATIONS_MAX. The first value of a key
        stays."""
        for key, value in annotations.items():
            if len(self.annotations) < ANNOTATIONS_MAX:
                self.annotations.setdefault(key, value)

    def context(self) -> Context:
        """The time and random values of every decision of this request: the same each time."""
        return Context(self.now, SeededChance(self.seed))


class Ask(Value, frozen=True, eq=False):
    """An outcome: these calls are to be made, at the same time, and then `resume` decides the
    request (CALL-1). `question`: what an authorizer asks instead; its answer is kept by the webhook
    (AUTHZ-10). `is_authorized`: the request itself has been authorized."""

    calls: tuple[Call, ...]
    request: Request
    known: Calls
    question: Question | None = None
    is_authorized: bool = True


def begin(context: Context, seconds: int | None = None) -> Calls:
    """The calls of a request before the first one. `seconds`: how long its client waits
    (CALL-3)."""
    seconds = REQUEST_SECONDS_MAX if seconds is None else min(seconds, REQUEST_SECONDS_MAX)
    return Calls(context.chance.draw(16), context.now, context.now + seconds * SECOND)


def begun(exchange: Exchange) -> Exchange:
    """The exchange of a request that is known to need calls."""
    request = exchange.request
    calls = begin(exchange.context, request.options.timeout_seconds)
    # In a simulation, requests that begin at one revision draw the same. Each has a seed of its
    # own, so that two objects never get one uid.
    names = (request.verb, request.resource.prefix, request.key, name_of(request.body))
    seed = blake2b("\0".join(names).encode(), key=calls.seed, digest_size=16).digest()
    calls = evolve(calls, seed=seed)
    return evolve(exchange, context=calls.context(), calls=calls)


def name_of(body: Any) -> str:
    """The name of a new object, of which the path of a create has none; empty if it has none."""
    metadata = getattr(body, "metadata", None)
    return str(getattr(metadata, "name", None) or "")


def answered(known: Calls, calls: Sequence[Call], results: Sequence[Result], now: Instant) -> Calls:
    """What is known after these results of the calls, in their order."""
    made = {call.id: result for call, result in zip(calls, results, strict=True)}
    return evolve(known, results={**known.results, **made}, is_late=now >= known.until, warnings=[])


def ask(known: Calls | None, *makers: Callable[[Calls], Call]) -> tuple[Result, ...]:
    """The results of these calls, which are made at the same time (CALL-2). Raises Needed if one is
    not there yet."""
    if known is None:
        raise Needed(())
    calls = [make(known) for make in makers]
    missing = tuple([call for call in calls if call.id not in known.results])
    if missing:
        raise Needed(missing)
    return tuple([known.results[call.id] for call in calls])


def timed(url: str, seconds: float) -> str:
    """The URL with the timeout as a parameter, which tells the other server how long it has."""
    return f"{url}?timeout={seconds:.0f}s"


def refused_words(code: int, body: bytes) -> str:
    """Upstream's words for an answer that is not a success: those of a Status in the body, or of
    the code."""
    from refk8s.core.api.meta_v1 import Status

    try:
        import msgspec

        tree: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        tree = None
    if isinstance(tree, dict) and tree.get("kind") == Status().kind:
        message = tree.get("message")
        if isinstance(message, str) and message:
            return message[:TEXT_MAX]
    if (words := _WORDS.get(code)) is not None:
        return words
    text = body[:TEXT_MAX].decode("utf-8", "replace").strip() or "unknown"
    if code == 403:
        return text
    if code >= 500:
        quoted = msgspec.json.encode(text).decode()
        return f"an error on the server ({quoted}) has prevented the request from succeeding"
    return f"the server responded with the status code {code} but did not return more information"


TEXT_MAX: Final = 2048
_WORDS: Final = {
    400: "the server rejected our request for an unknown reason",
    401: "the server has asked for the client to provide credentials",
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    409: "the server reported a conflict",
    415: "the body of the request was in an unknown format - accepted media types include: ",
    422: "the server rejected our request due to an error in our request",
    429: "the server has received too many requests and has asked us to try again later",
    503: "the server is currently unable to handle the request",
    504: "the server was unable to return a response in the time allotted, but may still be "
    "processing the request",
}

__all__ = [
    "Ask",
    "Call",
    "Calls",
    "Needed",
    "Result",
    "answered",
    "ask",
    "begin",
    "begun",
    "client_of",
    "name_of",
    "timed",
]
