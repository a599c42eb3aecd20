"""The cluster's credentials: certificate authority, certificates, tokens and keys. Rule HOST-6.

All are files in a directory `pki`. They are created once and kept, so that clients still trust the
cluster after a restart. API servers that share a store share this directory; the certificate of
each server is in a directory of its own (PROC-3).

| file | content | if it is missing or damaged |
|---|---|---|
| ca.crt, ca.key | the authority that signs the other certificates | refused: clients trust it |
| server.crt, server.key | the API server's | signed anew, also if its names or addresses change or it expires |
| admin.crt, admin.key | the administrator's, CN kubernetes-admin, O system:masters | signed anew |
| apiserver-kubelet-client.crt, .key | the API servers' for kubelets (STREAM-9), CN kube-apiserver-kubelet-client, O system:masters | signed when they are first needed, and anew |
| kubelet-ca.crt, .key | the authority of the kubelets' serving certificates (TRUST-16) | made when first needed; refused if damaged |
| front-proxy-ca.crt, .key | the authority by which other API servers know this one (APISVC-6) | made if missing; refused if damaged |
| front-proxy-client.crt, .key | the API servers' for other API servers, CN front-proxy-client | signed when they are first needed, and anew |
| admin.token | the administrator's bearer token | created if missing, refused if damaged |
| sa.key | signs the tokens of service accounts | created if missing, refused if damaged |
"""

import logging
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path

from refk8s.components import certificates
from refk8s.components.certificates import Pair
from refk8s.components.files import (
    CannotRun,
    make_directory,
    make_private,
    read_file,
    shared_lock,
    tighten,
    write_file,
)
from refk8s.components.key_maker import KeyMaker
from refk8s.core.apiserver.aggregation.authentication import CLIENT
from refk8s.core.apiserver.token_key import BadKey, TokenKey, parse_key
from refk8s.core.value import Value

log = logging.getLogger("refk8s")

ADMIN_NAME, ADMIN_GROUP = "kubernetes-admin", "system:masters"
TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,1024}")
CLUSTER_ID = "cluster-id"
TOKEN_KEY = "sa.key"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
KUBELET_CLIENT = "kube-apiserver-kubelet-client"
KUBELET_AUTHORITY_NAME = "refk8s-kubelet-ca"
FRONT_PROXY_AUTHORITY_NAME = "refk8s-front-proxy-ca"
_KEYS = ("ca.key", "admin.key", "admin.token", TOKEN_KEY, "token.key")


class Credentials(Value, frozen=True):
    """Certificates and their keys as paths, tokens and the token key as values."""

    authority: Path
    authority_key: Path
    certificate: Path
    key: Path
    admin_certificate: Path
    admin_key: Path
    admin_token: str
    token_key: TokenKey
    """Signs service account tokens."""


def load_credentials(
    directory: Path,
    hosts: tuple[str, ...],
    own: Path | None = None,
    keys: KeyMaker = certificates,
) -> Credentials:
    """Read and check the credentials in this directory; create missing ones where safe (HOST-6).

    `own`: the directory of this server's certificate, if it is another one. `keys` makes the
    missing ones. Raises CannotRun.
    """
    own = own or directory
    for each in dict.fromkeys((directory, own)):
        make_directory(each, "--pki" if own != directory and each == directory else "--data-dir")
        make_private(each)
    with shared_lock(directory):  # PROC-3
        return _load(directory, own, hosts, keys)


def _load(directory: Path, own: Path, hosts: tuple[str, ...], keys: KeyMaker) -> Credentials:
    is_new = not (directory / "ca.crt").exists()
    for path in (*(directory / name for name in _KEYS), own / "server.key"):
        if tighten(path):
            log.warning("%s was open to other users of this machine until now", path)
    now = datetime.now(UTC)
    authority = _authority(directory, now, keys)
    server = Pair(own / "server.crt", own / "server.key")
    admin = Pair(directory / "admin.crt", directory / "admin.key")
    if problem := certificates.problem_of_server(server, authority.certificate, hosts, now):
        _log_renewal(server, problem)
        key = keys.make_key()
        write_file(server.key, key)
        write_file(server.certificate, keys.make_server(key, _bytes(authority.key), hosts, now))
    _sign_client(admin, server, authority.certificate, authority.key, ADMIN_NAME, now, keys)
    return Credentials(
        authority.certificate, authority.key, server.certificate, server.key, admin.certificate, admin.key,
        _admin_token(directory / "admin.token", is_new), _token_key(directory, is_new, keys),
    )  # fmt: skip


def load_kubelet_client(credentials: Credentials) -> Pair:
    """The certificate with which API servers connect to kubelets (STREAM-9). It is shared, and
    signed when it is first needed. Raises CannotRun, OSError."""
    directory = credentials.authority.parent
    pair = Pair(
        directory / "apiserver-kubelet-client.crt", directory / "apiserver-kubelet-client.key"
    )
    server = Pair(credentials.certificate, credentials.key)
    now = datetime.now(UTC)
    with shared_lock(directory):
        _sign_client(
            pair, server, credentials.authority, credentials.authority_key, KUBELET_CLIENT, now
        )
    return pair


def load_kubelet_authority(directory: Path) -> Pair:
    """The authority of the kubelets' serving certificates (TRUST-16), in a directory of keys that
    API servers share. It is made when it is first needed. Raises CannotRun, OSError."""
    what_follows = "each node needs a new serving certificate"
    return _further_authority(directory, "kubelet-ca", KUBELET_AUTHORITY_NAME, what_follows)


def load_front_proxy_authority(directory: Path, keys: KeyMaker = certificates) -> Pair:
    """The authority by which other API servers know this one (APISVC-6). Raises CannotRun,
    OSError."""
    what_follows = "other API servers must be started again"
    name = FRONT_PROXY_AUTHORITY_NAME
    return _further_authority(directory, "front-proxy-ca", name, what_follows, keys)


def load_front_proxy_client(directory: Path) -> Pair:
    """The certificate with which API servers connect to other API servers (APISVC-6). It is shared,
    and signed when it is first needed. Raises CannotRun, OSError."""
    authority = load_front_proxy_authority(directory)
    pair = Pair(directory / "front-proxy-client.crt", directory / "front-proxy-client.key")
    name, now = CLIENT, datetime.now(UTC)
    with shared_lock(directory):
        if problem := certificates.problem_of_client(
            pair, authority, authority.certificate, name, "", now
        ):
            _log_renewal(pair, problem)
            key, signing = certificates.make_key(), _bytes(authority.key)
            write_file(pair.key, key)
            issuer = FRONT_PROXY_AUTHORITY_NAME
            signed = certificates.make_client(key, signing, name, "", now, issuer)
            write_file(pair.certificate, signed)
    return pair


def _further_authority(
    directory: Path, file: str, name: str, what_follows: str, keys: KeyMaker = certificates
) -> Pair:
    """An authority besides that of the cluster, made if it is missing. `what_follows`: if its files
    are removed."""
    pair = Pair(directory / f"{file}.crt", directory / f"{file}.key")
    with shared_lock(directory):
        certificate, key = read_file(pair.certificate), read_file(pair.key)
        if certificate is None and key is None:
            key = keys.make_key()
            write_file(pair.key, key)
        if certificate is None and key is not None:
            _certify(pair, key, name, datetime.now(UTC), keys)
        if problem := certificates.problem_of_self_signed(pair):
            raise CannotRun(
                f"{pair.certificate} and {pair.key} are not a certificate authority ({problem}): "
                f"restore them, or remove both to get a new one; then {what_follows}"
            )
    return pair


def read_cluster_id(directory: Path, can_be_recovered: bool) -> str:
    """The cluster id of this data directory.

    "" if there is none, or if it is damaged and the store has it too. Raises CannotRun.
    """
    path = directory / CLUSTER_ID
    content = read_file(path)
    if content is None:
        return ""
    found = content.decode("ascii", "replace").strip()
    if _UUID.fullmatch(found):
        return found
    if can_be_recovered:
        log.warning("%s is damaged and is written again from the store", path)
        return ""
    raise CannotRun(f"{path} has no cluster id: restore it, or remove it to begin a new cluster")


def write_cluster_id(directory: Path, cluster_id: str) -> None:
    """Write the cluster id, which labels the cluster's containers on an engine."""
    write_file(directory / CLUSTER_ID, f"{cluster_id}\n".encode())


def _authority(directory: Path, now: datetime, keys: KeyMaker) -> Pair:
    pair = Pair(directory / "ca.crt", directory / "ca.key")
    certificate, key = read_file(pair.certificate), read_file(pair.key)
    # Earlier versions did not keep the authority's key. Without it no certificate can be signed, so
    # they get a new authority.
    old = directory / "server.names"
    is_of_old = old.exists() and (key is None or certificate is None)
    has_signed = any((directory / name).exists() for name in ("server.crt", "admin.crt"))
    if (certificate is None and key is None) or is_of_old:
        if is_of_old:
            log.warning(
                "%s has no key: a new authority is made; "
                "copies of the kubeconfig must be made again",
                pair.certificate,
            )
            pair.certificate.unlink(missing_ok=True)
        elif has_signed:
            raise CannotRun(
                f"{pair.certificate} and {pair.key} are missing: restore them, "
                f"or remove {directory} to make all keys anew"
            )
        key = keys.make_key()
        write_file(pair.key, key)
        _certify(pair, key, certificates.AUTHORITY_NAME, now, keys)
    elif certificate is None and key is not None and not has_signed:
        # the first start was killed half way
        _certify(pair, key, certificates.AUTHORITY_NAME, now, keys)
    if problem := certificates.problem_of_self_signed(pair):
        raise CannotRun(
            f"{pair.certificate} and {pair.key} are not a certificate authority ({problem}): "
            f"restore them, or remove {directory} to make all keys anew"
        )
    old.unlink(missing_ok=True)
    return pair


def _sign_client(
    client: Pair, server: Pair, authority: Path, authority_key: Path, name: str, now: datetime,
    keys: KeyMaker = certificates,
) -> None:  # fmt: skip
    """Sign the certificate of an administrator anew if it is missing or is not accepted."""
    problem = certificates.problem_of_client(client, server, authority, name, ADMIN_GROUP, now)
    if problem:
        _log_renewal(client, problem)
        key = keys.make_key()
        write_file(client.key, key)
        signed = keys.make_client(key, _bytes(authority_key), name, ADMIN_GROUP, now)
        write_file(client.certificate, signed)


def _log_renewal(pair: Pair, problem: str) -> None:
    if pair.certificate.exists() and pair.key.exists():
        log.warning("%s is signed anew: %s", pair.certificate, problem)


def _admin_token(path: Path, is_new: bool) -> str:
    content = read_file(path)
    if content is None:
        _log_missing(path, is_new, "the old token is not accepted any more")
        token = secrets.token_hex(16)
        write_file(path, token.encode())
        return token
    token = content.decode("ascii", "replace").strip()
    if not TOKEN.fullmatch(token):
        raise CannotRun(
            f"{path} has no token (16 characters or more, no spaces): restore it, "
            "or remove it to get a new token"
        )
    return token


def _token_key(directory: Path, is_new: bool, keys: KeyMaker) -> TokenKey:
    """The key in sa.key. A data directory of an earlier version has a token.key instead; its tokens
    become invalid."""
    path, old = directory / TOKEN_KEY, directory / "token.key"
    content = read_file(path)
    if content is None:
        _log_missing(
            path, is_new, "tokens of service accounts that are in use are not accepted any more"
        )
        content = keys.make_key()
        write_file(path, content)
        old.unlink(missing_ok=True)
    try:
        return parse_key(content)
    except BadKey as error:
        raise CannotRun(
            f"{path} has no key for tokens ({error}): restore it, or remove it to get a new key"
        ) from None


def _certify(pair: Pair, key: bytes, name: str, now: datetime, keys: KeyMaker) -> None:
    """Write the certificate of a key. Raises CannotRun if the key is invalid."""
    try:
        write_file(pair.certificate, keys.make_self_signed(key, name, now))
    except (ValueError, TypeError) as error:
        raise CannotRun(
            f"{pair.key} has no private key ({error}): restore it, or remove it to get a new key"
        ) from None


def _log_missing(path: Path, is_new: bool, what_follows: str) -> None:
    if not is_new:
        log.warning("%s was missing and is made anew: %s", path, what_follows)


def _bytes(path: Path) -> bytes:
    content = read_file(path)
    assert content is not None, f"{path} was checked"
    return content
