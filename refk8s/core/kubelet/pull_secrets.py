"""The credentials for a registry, from the Secrets that a pod names. Rule KUBELET-130
(spec/kubelet.md).

A Secret of type kubernetes.io/dockerconfigjson or kubernetes.io/dockercfg has a configuration file
of Docker: registries with a user name and password each.

| registry in the file | matches images |
|---|---|
| `host` or `host:port`, with or without a scheme, `/v1/` or `/v2/` | of that host and port |
| `*.example.com` | of every host with one label in the place of `*` |
| `host/path` | of that host whose path begins with this one |
| `index.docker.io` | of docker.io, if no other entry matches |

Source: Kubernetes documentation, "Images" (using a private registry, config.json), "Pull an Image
from a Private Registry", "Secrets" (Docker config Secrets).
"""

import re
from base64 import b64decode
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from refk8s.core.api import reference
from refk8s.core.api.core_v1 import Secret
from refk8s.core.kubelet.draft import Draft
from refk8s.core.kubelet.objects import NotYet, secret_key
from refk8s.core.ports import RegistryCredential

SECRETS_MAX = 100
"""Secrets of a pod that are read; others count as missing."""
REGISTRIES_MAX = 1000
REGISTRY_LENGTH_MAX = 512
CREDENTIAL_LENGTH_MAX = 16 * 1024
"""A Secret with more registries, a longer one or a longer credential is not used."""
TRIES_MAX = 16
"""Credentials that are tried for one image."""

DOCKERCONFIGJSON, DOCKERCFG = "kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg"
_HUB, _HUB_INDEX = "docker.io", "index.docker.io"

Entries = list[tuple[str, RegistryCredential]]
"""(registry, credential), in the order of the Secrets."""


class NotUsable(Exception):
    """The Secret has no configuration of Docker. The error says nothing about its content."""


def pull_credentials(draft: Draft, image: str) -> tuple[RegistryCredential, ...]:
    """The credentials to try for this image, in this order (KUBELET-130).

    A Secret that is missing or malformed is recorded as an Event. Raises NotYet if one has not
    been read.
    """
    pod = draft.pod
    if pod is None or not pod.spec.image_pull_secrets:
        return ()
    names = [named.name for named in pod.spec.image_pull_secrets if named.name]
    names = list(dict.fromkeys(names))
    secrets, waits = {}, False
    for name in names[:SECRETS_MAX]:
        try:
            secrets[name] = draft.library.get(secret_key(pod.metadata.namespace or "", name))
        except NotYet:
            waits = True
    if waits:
        raise NotYet("a Secret of the pod's imagePullSecrets")
    entries: Entries = []
    unusable = []
    for name in names:
        try:
            entries += read_entries(secrets.get(name))
        except NotUsable:
            unusable.append(name)
    if unusable:
        draft.note(
            "FailedToRetrieveImagePullSecret",
            f"Unable to retrieve some image pull secrets ({', '.join(unusable)}); "
            "attempting to pull the image may not succeed.",
            "Warning",
        )
    return find_credentials(entries, image)


# --- the file -------------------------------------------------------------------------------------


class _Login(Struct, frozen=True):
    username: str | None = None
    password: str | None = None
    auth: str | None = None


class _File(Struct, frozen=True):
    auths: dict[str, _Login | None] | None = None


def read_entries(secret: Secret | None) -> Entries:
    """The entries of a Secret; none if it is of another type. Raises NotUsable."""
    if secret is None:
        raise NotUsable
    data = secret.data or {}
    try:
        if secret.type == DOCKERCONFIGJSON:
            content = b64decode(data.get(".dockerconfigjson", ""), validate=True)
            logins = msgspec.json.decode(content, type=_File).auths
        elif secret.type == DOCKERCFG:
            content = b64decode(data.get(".dockercfg", ""), validate=True)
            logins = msgspec.json.decode(content, type=dict[str, _Login | None])
        else:
            return []
        return _checked(
            [(_registry(name), _credential(login)) for name, login in (logins or {}).items()]
        )
    except (ValueError, RecursionError):  # Its text may quote the content, so it goes no further.
        raise NotUsable from None


def _checked(entries: Entries) -> Entries:
    if len(entries) > REGISTRIES_MAX:
        raise NotUsable
    for registry, credential in entries:
        length = max(len(credential.username), len(credential.password))
        if len(registry) > REGISTRY_LENGTH_MAX or length > CREDENTIAL_LENGTH_MAX:
            raise NotUsable
    return entries


def _credential(login: _Login | None) -> RegistryCredential:
    """`auth` is base64 of `user:password`, and comes before the two fields."""
    if login is None:
        return RegistryCredential("", "")
    if not login.auth:
        return RegistryCredential(login.username or "", login.password or "")
    padded = login.auth.rstrip("=") + "=" * (-len(login.auth.rstrip("=")) % 4)
    username, colon, password = b64decode(padded, validate=True).decode().partition(":")
    if not colon:
        raise NotUsable
    return RegistryCredential(username, password)


_SCHEME = re.compile(r"https?://")
_API_VERSION = re.compile(r"/v[12]/")


def _registry(name: str) -> str:
    """`host[:port][/path]` of a registry as a file has it."""
    if scheme := _SCHEME.match(name):
        name = name[scheme.end() :]
    host, slash, path = re.split(r"[?#]", name)[0].partition("/")
    path = slash + path
    if _API_VERSION.match(path):
        path = path[3:]
    return host if path == "/" else host + path


# --- the image ------------------------------------------------------------------------------------


def find_credentials(entries: Entries, image: str) -> tuple[RegistryCredential, ...]:
    """The credentials of the entries that match the image: those of a longer path first, and of
    the same registry in the order of the entries. O(entries * log(entries))."""
    named = reference.parse(image)
    if named is None:
        return ()
    host, path = named.domain, named.path
    if host == _HUB_INDEX:
        host, path = _HUB, path if "/" in path else f"library/{path}"
    # Sorting keeps the order of equal names; in reverse order a prefix comes after what it begins.
    ordered = sorted(entries, key=lambda entry: entry[0], reverse=True)
    found = [credential for registry, credential in ordered if _matches(registry, host, path)]
    if not found and host == _HUB:
        found = [credential for registry, credential in ordered if registry == _HUB_INDEX]
    return tuple(_distinct(found))


def _distinct(credentials: Iterable[RegistryCredential]) -> list[RegistryCredential]:
    return list(dict.fromkeys(credentials))[:TRIES_MAX]


def _matches(registry: str, host: str, path: str) -> bool:
    place, _, prefix = registry.partition("/")
    if not path.startswith(prefix):
        return False
    pattern, port = _split_port(place)
    name, asked = _split_port(host)
    patterns, labels = pattern.split("."), name.split(".")
    return (
        port == asked
        and len(patterns) == len(labels)
        and all(_fits(each, label) for each, label in zip(patterns, labels, strict=True))
    )


def _split_port(place: str) -> tuple[str, str]:
    """(host, port); an address of IPv6 in brackets has colons of its own."""
    host, colon, port = place.rpartition(":")
    return (host, port) if colon and "]" not in port else (place, "")


def _fits(pattern: str, label: str) -> bool:
    """Whether a label of a host fits; `*` stands for any text. O(pattern * label)."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == label
    if not label.startswith(first):
        return False
    at, last = len(first), rest.pop()
    for part in rest:
        found = label.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return len(label) - at >= len(last) and label.endswith(last)
