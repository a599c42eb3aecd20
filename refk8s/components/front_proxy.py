"""The certificates of authenticating proxies. Rule HTTP-29 (spec/http.md).

Nothing of it is loaded without `--requestheader-client-ca-file`. Both authorities are trusted in the
handshake then, so which of them has signed a certificate is read from the chain that the handshake
has verified: a certificate of the proxies' authority is never one of a user.
"""

import ssl
from collections.abc import Mapping
from typing import Any

from refk8s.components.connection import Connection
from refk8s.components.files import FILE_BYTES_MAX, CannotRun, read_bounded
from refk8s.core.api.user import User
from refk8s.core.apiserver.authenticate import user_of_subject
from refk8s.core.apiserver.http import WireRequest
from refk8s.core.apiserver.request_headers import (
    INVALID,
    NO_CERTIFICATE,
    BadHeaders,
    Lines,
    Presented,
    RequestHeaders,
    read_flags,
    user_of_connection,
)

FLAG = "--requestheader-client-ca-file"


class FrontProxy:
    """The proxies whose headers name users."""

    def __init__(self, headers: RequestHeaders, pem: str) -> None:
        """`pem`: the certificates of their authority. Raises SSLError."""
        self.headers = headers
        self._pem = pem
        self._roots = _roots(pem)
        self._clients: frozenset[bytes] = frozenset()

    @property
    def has_authority(self) -> bool:
        """Whether one of the certificates is that of an authority."""
        return bool(self._roots)

    def trust(self, context: ssl.SSLContext) -> None:
        """Accept certificates of the proxies besides those of the clients, whose authorities the
        context has."""
        self._clients = frozenset(context.get_ca_certs(binary_form=True))
        context.load_verify_locations(cadata=self._pem)
        # a resumed session has no chain
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0

    def split(self, headers: list[tuple[bytes, bytes]]) -> tuple[list[tuple[bytes, bytes]], Lines]:
        """The headers without those that name a user, and these. They are removed from every
        request, also from one that does not come from a proxy."""
        is_named = self.headers.is_named
        named = tuple([line for line in headers if is_named(line[0])])
        return (headers, ()) if not named else ([x for x in headers if not is_named(x[0])], named)

    def user_of(self, wire: WireRequest, connection: Connection) -> User | None:
        """The user by the connection's certificate. Raises ApiError 401."""
        return user_of_connection(
            self.presented(connection), wire.named, wire.headers, self.headers
        )

    def presented(self, connection: Connection) -> Presented:
        """What the handshake has shown of the client's certificate."""
        known: Presented | None = connection.presented
        if known is None:
            known = self.read(connection.transport.get_extra_info("ssl_object"))
            connection.presented = known
        return known

    def read(self, tls: Any) -> Presented:
        """The same, of a TLS connection; None: without TLS."""
        found = tls.getpeercert() if tls is not None else None
        if not found:
            return NO_CERTIFICATE
        root = _root_of(tls)
        subject = [pair for name in found.get("subject", ()) for pair in name]
        name = next((value for kind, value in reversed(subject) if kind == "commonName"), "")
        is_proxy = root in self._roots and self.headers.is_proxy(name)
        if root in self._clients:
            return Presented(user_of_subject(subject, tls.getpeercert(binary_form=True)), is_proxy)
        return Presented(is_proxy=True, is_valid=False) if is_proxy else INVALID


def _roots(pem: str) -> frozenset[bytes]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=pem)
    return frozenset(context.get_ca_certs(binary_form=True))


def _root_of(tls: Any) -> bytes:
    """The authority at the end of the chain that the handshake has verified, in DER; empty if the
    library has no chain."""
    if hasattr(tls, "get_verified_chain"):  # since Python 3.13
        chain = tls.get_verified_chain()
        return bytes(chain[-1]) if chain else b""
    chain = tls._sslobj.get_verified_chain()
    return ssl.PEM_cert_to_DER_cert(chain[-1].public_bytes()) if chain else b""


def read_front_proxy(flags: Mapping[str, Any]) -> FrontProxy | None:
    """The proxies of the flags `--requestheader-*`; None without them. Raises CannotRun."""
    path = flags.get("client_ca_file", "")
    if not path:
        given = [name for name, value in flags.items() if value]
        if given:
            raise CannotRun(f"--requestheader-{given[0].replace('_', '-')}: needs {FLAG}")
        return None
    pem = read_bounded(path, FLAG, FILE_BYTES_MAX)
    try:
        proxy = FrontProxy(read_flags(flags), pem.decode("ascii"))
    except BadHeaders as error:
        raise CannotRun(str(error)) from None
    except (ssl.SSLError, ValueError):
        raise CannotRun(f"{FLAG} {path}: not certificates in PEM") from None
    if not proxy.has_authority:
        raise CannotRun(f"{FLAG} {path}: no certificate of an authority")
    return proxy
