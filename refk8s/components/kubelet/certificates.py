"""The certificates of a kubelet: requested from the cluster, kept in files, renewed while the
process runs. Rules TRUST-12, TRUST-13 (spec/trust.md).

A file has a certificate and its key, and is replaced atomically, so that the two always belong
together. The client of the API server follows the file by itself (CLIENT-9); `on_change` tells the
HTTPS port of the kubelet.
"""

import asyncio
import logging
import secrets
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from attrs import frozen

from refk8s.components import certificates
from refk8s.components.certificates import make_key
from refk8s.components.files import CannotRun, read_file, write_file
from refk8s.components.periodic import Periodic
from refk8s.core.api.certificates_v1 import (
    CertificateSigningRequest,
    CertificateSigningRequestSpec,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import CERTIFICATE_SIGNING_REQUESTS
from refk8s.core.context import SECOND, Instant

log = logging.getLogger("refk8s")

RENEW_FROM, RENEW_TO = 0.7, 0.9
"""The part of its time after which a certificate is renewed, at random between these."""
CHECK_SECONDS = 60.0
RETRY_SECONDS, RETRY_SECONDS_MAX = 10.0, 900.0
"""The pause after a refused request, which leaves an object, and the longest one."""
POLL_SECONDS = (0.2, 5.0)  # of a request that waits for its certificate: the first, the longest
WAIT_SECONDS = 900.0
"""How long one request waits. Then another one is made."""
Call = Callable[[Request], Awaitable[Response | None]]


@frozen
class Wanted:
    """One certificate of a node. `dns_names`, `ip_addresses`: of a serving certificate."""

    what: str  # for messages
    signer: str
    usages: tuple[str, ...]
    node_name: str
    dns_names: tuple[str, ...] = ()
    ip_addresses: tuple[str, ...] = ()


def client_certificate(node_name: str) -> Wanted:
    """With which the kubelet authenticates to the API server."""
    return Wanted(
        "client certificate",
        "kubernetes.io/kube-apiserver-client-kubelet",
        ("digital signature", "client auth"),
        node_name,
    )


def serving_certificate(node_name: str, address: str) -> Wanted:
    """With which the kubelet's HTTPS port is verified."""
    return Wanted(
        "serving certificate",
        "kubernetes.io/kubelet-serving",
        ("digital signature", "server auth"),
        node_name,
        (node_name,),
        (address,),
    )


@frozen
class Held:
    """A certificate that a file has."""

    not_before: Instant
    not_after: Instant
    names: frozenset[str]
    """The common name, DNS names and IP addresses."""

    def renewal(self, part: float) -> Instant:
        """The instant at which this part of its time is over."""
        return self.not_before + int((self.not_after - self.not_before) * part)


def read_held(path: Path) -> Held | None:
    """The certificate in a file with its key; None if there is none that can be used."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = read_file(path)
    if content is None:
        return None
    try:
        found = x509.load_pem_x509_certificate(content)
        if load_pem_private_key(content, None).public_key() != found.public_key():
            return None
        names = {str(each.value) for each in found.subject}
        for extension in found.extensions:
            if isinstance(extension.value, x509.SubjectAlternativeName):
                names |= {str(each.value) for each in extension.value}
    except (ValueError, TypeError):
        return None
    begin, end = found.not_valid_before_utc, found.not_valid_after_utc
    return Held(int(begin.timestamp()) * SECOND, int(end.timestamp()) * SECOND, frozenset(names))


async def request_certificate(
    wanted: Wanted, call: Call, tell: Callable[[str], None], seconds: float = WAIT_SECONDS
) -> bytes:
    """The certificate and its new key, in PEM. `tell` gets a line if an administrator has to
    approve the request. Raises CannotRun if it is refused or if nothing comes of it."""
    key = await asyncio.to_thread(make_key)
    pem = certificates.make_request(
        key,
        f"system:node:{wanted.node_name}",
        "system:nodes",
        (*wanted.dns_names, *wanted.ip_addresses),
    )
    name = f"node-csr-{secrets.token_hex(16)}"
    spec = CertificateSigningRequestSpec(
        request=b64encode(pem).decode(), signer_name=wanted.signer, usages=wanted.usages
    )
    body = CertificateSigningRequest(metadata=ObjectMeta(name=name), spec=spec)
    where = (CERTIFICATE_SIGNING_REQUESTS, "", name)
    because = f"node {wanted.node_name} needs a {wanted.what}"
    found = await _ask(call, Request("create", *where, body=body, because=because), wanted)
    loop = asyncio.get_running_loop()
    begin, pause, is_told = loop.time(), POLL_SECONDS[0], False
    while not found.status.certificate:
        for condition in found.status.conditions or ():
            if condition.type in ("Denied", "Failed"):
                words = condition.message or condition.reason or "no reason is given"
                raise CannotRun(f"the {wanted.what} is refused ({condition.type}): {words}")
        if loop.time() >= begin + seconds:
            raise CannotRun(f"the {wanted.what} has not been issued; approve its next request")
        if loop.time() >= begin + 2 * POLL_SECONDS[1] and not is_told:
            is_told = True
            tell(f"the {wanted.what} waits for approval: kubectl certificate approve {name}")
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, POLL_SECONDS[1])
        found = await _ask(call, Request("get", *where), wanted)
    return b64decode(found.status.certificate) + key


async def _ask(call: Call, request: Request, wanted: Wanted) -> Any:
    """The object of the answer; a request without an answer is sent again. Raises CannotRun."""
    for _ in range(5):
        response = await call(request)
        if response is not None and response.ok:
            return response.body
        if response is not None and response.code == 409 and request.verb == "create":
            request = Request("get", request.resource, "", request.name)  # the first one arrived
        elif response is not None and response.code not in (429, 500, 503, 504):
            raise CannotRun(f"the {wanted.what} cannot be requested: {response.body.message}")
        else:
            await asyncio.sleep(1.0)
    raise CannotRun(f"the {wanted.what} cannot be requested: the API server does not answer")


class CertificateKeeper(Periodic):
    """Keeps one certificate in its file valid."""

    failure_pause_seconds = RETRY_SECONDS

    def __init__(
        self,
        path: Path,
        wanted: Wanted,
        call: Call,
        now: Callable[[], Instant],
        on_change: Callable[[Path], None] = lambda path: None,
    ) -> None:
        self.path = path
        self.wanted = wanted
        self.subject = f"the {wanted.what}"
        self._call = call
        self._now = now
        self._on_change = on_change
        self._part = RENEW_FROM + (RENEW_TO - RENEW_FROM) * secrets.randbelow(1000) / 1000
        self._is_shown = False
        self._failures = 0

    async def round(self) -> float:
        """Renew the certificate if it is due; returns the seconds until the next look."""
        held = await asyncio.to_thread(read_held, self.path)
        if held is not None and not self.is_due(held):
            if not self._is_shown:
                self._show()
            return max(1.0, min(CHECK_SECONDS, self._seconds_left(held)))
        try:
            pem = await request_certificate(self.wanted, self._call, log.warning)
            write_file(self.path, pem)
        except CannotRun as problem:
            pause = min(RETRY_SECONDS * (1 << min(self._failures, 10)), RETRY_SECONDS_MAX)
            self._failures += 1
            log.warning("%s; it is tried again in %.0f s", problem, pause)
            return pause
        self._failures = 0
        self._show()
        return 1.0

    def is_due(self, held: Held) -> bool:
        """Whether the certificate must be renewed: its time is over for the most part, or it is not
        for these names."""
        wanted = {*self.wanted.dns_names, *self.wanted.ip_addresses}
        return self._now() >= held.renewal(self._part) or not wanted <= held.names

    def _seconds_left(self, held: Held) -> float:
        return (held.renewal(self._part) - self._now()) / SECOND

    def _show(self) -> None:
        self._is_shown = True
        try:
            self._on_change(self.path)
        except (OSError, ValueError) as error:
            log.warning("the %s cannot be used: %s", self.wanted.what, error)
