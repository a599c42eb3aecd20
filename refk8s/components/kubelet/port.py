"""The listening port of a kubelet process: its socket, its TLS, and who may use it. Rules STREAM-8,
STREAM-9."""

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Any

from refk8s.components import certificates
from refk8s.components.client.tls import as_file
from refk8s.components.connection import Server
from refk8s.components.credentials import KUBELET_AUTHORITY_NAME, load_kubelet_authority
from refk8s.components.exposition import METRICS_TYPE, exposition
from refk8s.components.files import CannotRun, read_file
from refk8s.components.kubelet.server import (
    KubeletServer,
    Page,
    ServedNode,
    served_nodes,
)
from refk8s.components.listening import listen
from refk8s.components.server_config import server_config
from refk8s.core.api.authorization_v1 import (
    ResourceAttributes,
    SubjectAccessReview,
    SubjectAccessReviewSpec,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import SUBJECT_ACCESS_REVIEWS
from refk8s.core.api.user import User
from refk8s.core.client.kubeconfig import Pem
from refk8s.core.client.kubelet import DEFAULT_PORT
from refk8s.core.ports import Node

if TYPE_CHECKING:
    from refk8s.components.component_process import Component
    from refk8s.components.kubelet_process import KubeletOptions

CONNECTIONS_MAX = 1024
CLOSING_SECONDS = 0.5
MASTERS = "system:masters"
ALLOWED_SECONDS, REFUSED_SECONDS = 60.0, 10.0
"""How long the answer of a SubjectAccessReview is used."""
ANSWERS_MAX = 1024


class KubeletPort:
    """The HTTPS port of one process. `listen`, then `use` for a certificate, then `serve`."""

    def __init__(self, component: "Component", authority: bytes) -> None:
        """`authority`: the certificate of the authority that signs the clients' certificates."""
        self._component = component
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._tls.verify_mode = ssl.CERT_OPTIONAL
        self._tls.load_verify_locations(cadata=authority.decode("latin-1"))
        self._socket: socket | None = None
        self._server: Server | None = None
        self._reviews = Reviews(component.api.call)

    def listen(self, address: str, port: int | None) -> None:
        """Take the port; without one 10250, or a free one if that is in use. Raises CannotRun."""
        try:
            self._socket = listen(address, DEFAULT_PORT if port is None else port)
        except CannotRun as error:
            if port is not None:
                raise CannotRun(str(error).replace("--bind", "--address")) from None
            self._socket = listen(address, 0)

    @property
    def number(self) -> int:
        """The number of the port."""
        assert self._socket is not None
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._socket is not None
        host = self._socket.getsockname()[0]
        return f"https://{f'[{host}]' if ':' in host else host}:{self.number}"

    def use(self, certificate: Pem, key: Pem) -> None:
        """Use this certificate for new connections. Raises OSError, ValueError."""
        with as_file(certificate) as one, as_file(key) as other:
            self._tls.load_cert_chain(one, other)

    def serve(self, nodes: Mapping[str, ServedNode], pages: Mapping[str, Page]) -> None:
        """Answer requests about these nodes."""
        assert self._socket is not None
        application = KubeletServer(nodes, pages, self._reviews.why_not, self._component.clock.now)
        config = server_config(application)
        config.ssl = self._tls
        self._server = Server(config, CONNECTIONS_MAX)
        self._server.start()
        self._server.listen(self._socket)

    async def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            await self._server.close(CLOSING_SECONDS)
        elif self._socket is not None:
            self._socket.close()


class Reviews:
    """Asks the API server whether a user may use the port. Answers are kept for a short time."""

    def __init__(self, call: Callable[[Request], Awaitable[Response | None]]) -> None:
        self._call = call
        self._known: OrderedDict[tuple[Any, ...], tuple[float, str]] = OrderedDict()

    async def why_not(self, user: User, verb: str, subresource: str, node: str) -> str:
        """ "" if the user may, else the reason. Without an answer it is refused."""
        if MASTERS in user.groups:
            return ""
        now = asyncio.get_running_loop().time()
        key = (user.name, user.groups, verb, subresource, node)
        until, words = self._known.get(key, (0.0, ""))
        if now < until:
            return words
        words = await self._ask(user, verb, subresource, node)
        self._known[key] = (now + (REFUSED_SECONDS if words else ALLOWED_SECONDS), words)
        self._known.move_to_end(key)
        while len(self._known) > ANSWERS_MAX:
            self._known.popitem(last=False)
        return words

    async def _ask(self, user: User, verb: str, subresource: str, node: str) -> str:
        attributes = ResourceAttributes(
            verb=verb, resource="nodes", subresource=subresource, name=node, version="v1"
        )
        review = SubjectAccessReview(
            metadata=ObjectMeta(),
            spec=SubjectAccessReviewSpec(
                user=user.name, groups=user.groups, resource_attributes=attributes
            ),
        )
        response = await self._call(Request("create", SUBJECT_ACCESS_REVIEWS, body=review))
        if response is None or not response.ok:
            return "the API server has not answered the SubjectAccessReview"
        if response.body.status is not None and response.body.status.allowed:
            return ""
        return f"user={user.name}, verb={verb}, resource=nodes, subresource={subresource}"


def open_port(
    component: "Component", options: "KubeletOptions", address: str, names: tuple[str, ...]
) -> KubeletPort | None:
    """The port of the flags, listening and with its certificate; None without a certificate.
    `address`, `names`: of the node, for the certificate. Raises CannotRun."""
    pair = _find_certificate(options, (*names, address))
    if pair is None:
        return None
    path = options.client_ca_file or component.access.authority.path
    try:
        authority = (
            component.access.authority.content if not options.client_ca_file else b""
        ) or Path(path).read_bytes()
        port = KubeletPort(component, authority)
        port.use(*pair)
    except (OSError, ValueError) as error:
        flags = "--client-ca-file, --tls-cert-file, --tls-private-key-file"
        raise CannotRun(f"the certificates of the kubelet's port: {error}; see {flags}") from None
    port.listen(options.address or address, options.port)
    return port


def _find_certificate(options: "KubeletOptions", hosts: tuple[str, ...]) -> tuple[Pem, Pem] | None:
    if options.tls_cert_file or options.tls_private_key_file:
        if not (options.tls_cert_file and options.tls_private_key_file):
            raise CannotRun("--tls-cert-file and --tls-private-key-file are given together")
        return Pem(path=options.tls_cert_file), Pem(path=options.tls_private_key_file)
    if not options.pki:
        return None
    directory = Path(options.pki)
    if read_file(directory / "ca.key") is None:
        raise CannotRun(f"--pki {directory}: there is no ca.key, as in that of an API server")
    authority = load_kubelet_authority(directory)  # TRUST-16
    own, key = certificates.make_key(), read_file(authority.key)
    assert key is not None, "it was checked"
    name = KUBELET_AUTHORITY_NAME
    signed = certificates.make_server(own, key, hosts, datetime.now(UTC), name)
    return Pem(content=signed), Pem(content=own)


def serve_nodes(port: KubeletPort, component: "Component", nodes: Sequence[Node]) -> None:
    """Serve these nodes, whose kubelets are the machines of the process."""

    async def metrics(node: ServedNode) -> tuple[bytes, str]:
        return exposition(component.metrics), METRICS_TYPE

    pages = {"/metrics": metrics}
    port.serve(served_nodes(component.drivers, nodes, component.clock.now), pages)
