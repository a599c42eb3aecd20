"""The credentials of this API server at admission webhooks. Rule HOOK-13 (spec/webhooks.md).

They are in a kubeconfig, by the name of the server. Nothing of it is logged. Source: Kubernetes
documentation, "Dynamic Admission Control" (Authenticate apiservers).
"""

from pathlib import Path
from time import time
from typing import Any
from urllib.parse import urlsplit

from refk8s.components.client.credentials import Credentials
from refk8s.components.client.tls import TlsContexts
from refk8s.components.files import CannotRun, read_file
from refk8s.core.apiserver.calls import PORT, Call
from refk8s.core.client.kubeconfig import Access, BadKubeconfig, Pem, Users, read_users

FILE_BYTES_MAX = 1 << 20
PEM_BYTES_MAX = 1 << 20

OwnPair = tuple[bytes, bytes]
"""A client certificate and its key, as PEM."""


class WebhookCredentials:
    """The credentials in one kubeconfig."""

    def __init__(self, users: Users) -> None:
        self._users = users
        self._open: dict[Access, Credentials] = {}

    def headers(self, call: Call) -> tuple[tuple[bytes, bytes], ...]:
        """The headers by which the webhook recognises this server."""
        access = self._of(call)
        if access is None:
            return ()
        open_ = self._open.get(access)
        if open_ is None:
            open_ = self._open[access] = Credentials(access, TlsContexts(access), time)
        value = open_.authorization()
        found = [("authorization", value)] if value else []
        return tuple(
            [(name.encode(), text.encode()) for name, text in (*found, *access.impersonation)]
        )

    def certificate(self, call: Call) -> OwnPair | None:
        """The certificate for a new connection, as its files are now. Raises OSError."""
        access = self._of(call)
        if access is None or not access.certificate:
            return None
        return _content(access.certificate), _content(access.key)

    def _of(self, call: Call) -> Access | None:
        place = urlsplit(call.url)
        return self._users.find(f"{place.hostname}:{place.port or PORT}")


def _content(pem: Pem) -> bytes:
    if pem.content:
        return pem.content
    with open(pem.path, "rb") as file:
        return file.read(PEM_BYTES_MAX)


def read_webhook_credentials(path: str, flag: str) -> WebhookCredentials:
    """The credentials in this kubeconfig. Raises CannotRun, with the reason and none of them."""
    from refk8s.components.yaml_reader import BadYaml, read_yaml

    data = read_file(Path(path), FILE_BYTES_MAX)
    if data is None:
        raise CannotRun(f"{flag}: {path}: there is no such file")
    try:
        tree: Any = read_yaml(data).tree
        return WebhookCredentials(read_users(tree, str(Path(path).parent)))
    except BadYaml:
        raise CannotRun(f"{flag}: {path}: is no YAML") from None
    except BadKubeconfig as error:
        raise CannotRun(f"{flag}: {path}: {error}") from None
