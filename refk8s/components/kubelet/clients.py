"""The kubelets of other processes, as an API server reaches them. Rules STREAM-8, STREAM-9."""

import asyncio
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

from refk8s.components.certificates import Pair
from refk8s.components.credentials import (
    Credentials,
    load_kubelet_authority,
    load_kubelet_client,
)
from refk8s.components.files import CannotRun
from refk8s.core.api.core_v1 import Node
from refk8s.core.client.kubelet import Unreachable, find_kubelet
from refk8s.core.ports import StreamFailed

if TYPE_CHECKING:
    from refk8s.components.kubelet.remote import RemoteKubelet

CHECK_SECONDS = 3600.0


class KubeletClients:
    """Makes a client for the kubelet of a node. The certificate is read with the first one, and
    checked again every hour."""

    def __init__(
        self, credentials: Credentials, load: Callable[[Credentials], Pair] = load_kubelet_client
    ) -> None:
        self._credentials = credentials
        self._load = load
        self._tls: ssl.SSLContext | None = None
        self._checked_at = 0.0
        self._loading = asyncio.Lock()

    async def find(self, node: Node) -> "RemoteKubelet":
        """The kubelet at the port and address that the node reports. Raises StreamFailed."""
        from refk8s.components.kubelet.remote import RemoteKubelet  # Few runs need it.

        try:
            address, port = find_kubelet(node)
        except Unreachable as error:
            raise StreamFailed(f"error dialing backend: {error}") from None
        return RemoteKubelet(node.metadata.name or "", address, port, await self._context())

    async def _context(self) -> ssl.SSLContext:
        async with self._loading:
            now = asyncio.get_running_loop().time()
            if self._tls is None or now > self._checked_at + CHECK_SECONDS:
                try:
                    self._tls = await asyncio.to_thread(self._make)
                except (CannotRun, OSError, ValueError) as error:
                    words = f"error dialing backend: the certificate for kubelets: {error}"
                    raise StreamFailed(words) from None
                self._checked_at = now
            return self._tls

    def _make(self) -> ssl.SSLContext:
        pair = self._load(self._credentials)
        context = ssl.create_default_context(cafile=str(self._credentials.authority))
        # TRUST-16
        own = load_kubelet_authority(self._credentials.authority.parent)
        context.load_verify_locations(cafile=str(own.certificate))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(pair.certificate, pair.key)
        return context
