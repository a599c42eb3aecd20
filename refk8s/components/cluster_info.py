"""The ConfigMap kube-public/cluster-info: where the API server is, and its authority. Rules
TRUST-3, TRUST-4 (spec/trust.md)."""

import hashlib
import json
import ssl
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from msgspec.structs import replace

from refk8s.core.api.bootstrap_token import INFO_KEY, INFO_NAME, INFO_NAMESPACE
from refk8s.core.api.core_v1 import ConfigMap
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import CONFIG_MAPS
from refk8s.core.api.user import API_SERVER
from refk8s.core.value import Value

WHERE = (CONFIG_MAPS, INFO_NAMESPACE, INFO_NAME)
ATTEMPTS = 5


class ClusterInfo(Value, frozen=True):
    """A cluster as its cluster-info describes it."""

    server: str
    authority: bytes
    """The certificates of its authority, in PEM."""


def write_info(info: ClusterInfo) -> str:
    """The content of the ConfigMap: a kubeconfig without a user."""
    cluster = {
        "certificate-authority-data": b64encode(info.authority).decode(),
        "server": info.server,
    }
    tree = {
        "apiVersion": "v1",
        "clusters": [{"cluster": cluster, "name": ""}],
        "contexts": [],
        "current-context": "",
        "kind": "Config",
        "preferences": {},
        "users": [],
    }
    return json.dumps(tree, indent=1) + "\n"


def read_info(content: str) -> ClusterInfo:
    """The cluster of such a content, also if another program has written it. Raises ValueError."""
    from refk8s.components.yaml_reader import BadYaml, read_yaml

    try:
        cluster = read_yaml(content.encode()).tree["clusters"][0]["cluster"]
        server, authority = cluster["server"], b64decode(cluster["certificate-authority-data"])
    except (BadYaml, LookupError, TypeError, ValueError, UnicodeError) as error:
        raise ValueError("it is not a kubeconfig with one cluster and its authority") from error
    if not isinstance(server, str) or urlsplit(server).scheme != "https":
        raise ValueError("its server is not a URL that begins with https://")
    return ClusterInfo(server, authority)


async def publish_info(
    info: ClusterInfo, call: Callable[[Request], Awaitable[Response]]
) -> Response:
    """Make the ConfigMap say this; signatures are the bootstrap signer's (TRUST-3). Returns the
    last response."""
    because = "nodes that join verify the API server by it"
    return await publish(INFO_NAMESPACE, INFO_NAME, {INFO_KEY: write_info(info)}, call, because)


async def publish(
    namespace: str,
    name: str,
    wanted: Mapping[str, str],
    call: Callable[[Request], Awaitable[Response]],
    because: str,
) -> Response:
    """Make a ConfigMap have this data; other keys stay. Returns the last response."""
    where = (CONFIG_MAPS, namespace, name)
    for _ in range(ATTEMPTS):
        response = await call(Request("get", *where, user=API_SERVER))
        if response.ok:
            found: ConfigMap = response.body
            data = found.data or {}
            if all(data.get(key) == text for key, text in wanted.items()):
                break
            body: Any = replace(found, data={**data, **wanted})
            verb = "update"
        else:
            metadata = ObjectMeta(name=name, namespace=namespace)
            body, verb = ConfigMap(metadata=metadata, data=dict(wanted)), "create"
        response = await call(Request(verb, *where, body=body, user=API_SERVER, because=because))
        if response.code not in (404, 409):
            break
    return response


def key_hash(certificate: bytes) -> str:
    """The pin of a certificate in DER, as kubeadm writes it: "sha256:" and the hash of its public
    key (SubjectPublicKeyInfo) in hexadecimal digits. Raises ValueError if it is no certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = x509.load_der_x509_certificate(certificate).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(spki).hexdigest()}"


def certificates_of(pem: bytes) -> list[bytes]:
    """The certificates in a PEM file, each in DER. Raises ValueError if there is none."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    text = pem.decode("ascii")
    found = [
        ssl.PEM_cert_to_DER_cert(f"{begin}{part.partition(end)[0]}{end}")
        for part in text.split(begin)[1:]
    ]
    if not found:
        raise ValueError("it has no certificate")
    return found
