"""How a machine finds out who a cluster is, with a bootstrap token and the hash of a public key.
Rule TRUST-11 (spec/trust.md).

cluster-info is read twice: first from a server that is not verified, then, once its signature
and its authority are verified, from a server with a certificate of this authority.
"""

import http.client
import json
import re
import ssl
import time
from urllib.parse import urlsplit

from attrs import evolve, frozen

from refk8s.components.cluster_info import ClusterInfo, certificates_of, key_hash, read_info
from refk8s.components.files import CannotRun
from refk8s.core.api.bootstrap_token import (
    INFO_KEY,
    INFO_NAME,
    INFO_NAMESPACE,
    SIGNATURE_PREFIX,
    is_signed,
    split_token,
)
from refk8s.core.client.servers import SERVERS_MAX

PATH = f"/api/v1/namespaces/{INFO_NAMESPACE}/configmaps/{INFO_NAME}"
BYTES_MAX = 1 << 20
ANSWER_SECONDS = 10.0
SIGNATURE_SECONDS = 30.0
"""How long the signature may take: the token may just have been created."""
POLL_SECONDS = 0.5
_HASH = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


@frozen
class Invitation:
    """What a user gives a machine so that it can join: the URLs of API servers, a bootstrap token,
    and the hashes of the public keys of the cluster's authorities."""

    servers: tuple[str, ...]
    token: str
    ca_hashes: tuple[str, ...]
    server: str
    """The one of them that is asked."""


def check_server(server: str) -> str:
    """The URL of an API server, without a slash at its end. Raises CannotRun."""
    try:
        url = urlsplit(server)
        is_good = url.scheme == "https" and bool(url.hostname) and (url.port or 443) > 0
    except ValueError:
        is_good = False
    if not is_good or url.path.strip("/") or url.query or url.fragment or url.username is not None:
        raise CannotRun(f"{server}: not the URL of an API server; write it like https://HOST:6443")
    return server.rstrip("/")


def check_servers(servers: tuple[str, ...]) -> tuple[str, ...]:
    """The URLs of API servers, each once. Raises CannotRun."""
    found = tuple(dict.fromkeys(check_server(each) for each in servers))
    if len(found) > SERVERS_MAX:
        raise CannotRun(f"{len(found)} API servers: name at most {SERVERS_MAX} of them")
    return found


def check_invitation(
    servers: tuple[str, ...], token: str, ca_hashes: tuple[str, ...]
) -> Invitation:
    """The invitation of these flags. Raises CannotRun; the message has no secret."""
    servers = check_servers(servers)
    if not split_token(token)[0]:
        raise CannotRun(
            "the token is not a bootstrap token such as abcdef.0123456789abcdef: "
            "create one with refk8s token create"
        )
    if not ca_hashes:
        raise CannotRun(
            "--ca-hash is missing: without it another server could pass itself off as the "
            "cluster; refk8s token create --print-join-command prints it"
        )
    for each in ca_hashes:
        if not _HASH.fullmatch(each):
            raise CannotRun(f"--ca-hash {each}: not sha256: and 64 hexadecimal digits")
    return Invitation(servers, token, ca_hashes, servers[0])


class CannotReach(CannotRun):
    """There is no connection to the API server."""


def discover(invitation: Invitation) -> ClusterInfo:
    """The cluster, verified, with the first server that can be reached. Raises CannotRun."""
    for number, server in enumerate(invitation.servers, start=1):
        try:
            return _discover(evolve(invitation, server=server))
        except CannotReach:
            if number == len(invitation.servers):
                raise
    raise AssertionError("an invitation has a server")


def _discover(invitation: Invitation) -> ClusterInfo:
    """The cluster of one server. Takes some seconds at most; raises CannotRun."""
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    end = time.monotonic() + SIGNATURE_SECONDS
    while True:
        content, signature = _read(invitation, unverified)
        if signature:
            break
        if time.monotonic() >= end:
            id = split_token(invitation.token)[0]
            raise CannotRun(
                f"the cluster at {invitation.server} does not know the bootstrap token {id}, "
                "or it has expired: create another one with refk8s token create"
            )
        time.sleep(POLL_SECONDS)
    info = verify(content, signature, invitation)
    again, _ = _read(invitation, ssl.create_default_context(cadata=info.authority.decode("ascii")))
    if again != content:
        raise CannotRun(
            f"the cluster-info of {invitation.server} has changed while it was verified: try again"
        )
    # the URL of the user is one that leads there from this machine
    return ClusterInfo(invitation.server, info.authority)


def verify(content: str, signature: str, invitation: Invitation) -> ClusterInfo:
    """The cluster of a cluster-info if it is signed with the token, and if every authority in it is
    one of the hashes. Raises CannotRun."""
    if not is_signed(content, signature, *split_token(invitation.token)):
        raise CannotRun(
            f"the cluster-info of {invitation.server} is not signed with this token: "
            "it is not the cluster that the token is for, or the token is wrong"
        )
    try:
        info = read_info(content)
        hashes = [key_hash(each) for each in certificates_of(info.authority)]
    except (ValueError, UnicodeDecodeError) as error:
        raise CannotRun(
            f"the cluster-info of {invitation.server} cannot be read: {error}"
        ) from None
    if not set(hashes) <= set(invitation.ca_hashes):
        raise CannotRun(
            f"the authority of {invitation.server} is not the one of --ca-hash: "
            f"it has {', '.join(hashes)}"
        )
    return info


def _read(invitation: Invitation, context: ssl.SSLContext) -> tuple[str, str]:
    """(the kubeconfig in cluster-info, its signature with the token or ""). Raises CannotRun."""
    url = urlsplit(invitation.server)
    connection = http.client.HTTPSConnection(
        url.hostname or "", url.port or 443, timeout=ANSWER_SECONDS, context=context
    )
    try:
        connection.request("GET", PATH, headers={"Accept": "application/json"})
        answer = connection.getresponse()
        body = answer.read(BYTES_MAX)
    except ssl.SSLCertVerificationError as error:
        raise CannotRun(
            f"the certificate of {invitation.server} is not valid: {error.verify_message}"
        ) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise CannotReach(f"cannot reach {invitation.server}: {why}") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise CannotRun(
            f"{invitation.server} answers {answer.status} to the question for cluster-info: "
            "it is no API server of refk8s or kubeadm"
        )
    try:
        data = json.loads(body)["data"]
        content, id = data[INFO_KEY], split_token(invitation.token)[0]
        signature = data.get(f"{SIGNATURE_PREFIX}{id}", "")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise CannotRun(f"the cluster-info of {invitation.server} has no kubeconfig") from None
    if not isinstance(content, str) or not isinstance(signature, str):
        raise CannotRun(f"the cluster-info of {invitation.server} is no text")
    return content, signature
