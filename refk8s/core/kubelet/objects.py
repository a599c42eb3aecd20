"""The objects that pods refer to: ConfigMaps, Secrets, claims and volumes, tokens, trust bundles.
Rules KUBELET-70 ... KUBELET-72, KUBELET-95 (spec/kubelet.md).

The kubelet reads an object when a pod needs it, keeps it for a minute, and reads it again while a
pod mounts it. A missing object is read again after 1, 2, 4 and 8 s, then every 10 s. A container
gets objects that are at least as new as its pod (KUBELET-95). While the API server does not answer,
a pod that already had the object continues with the last one read.

Source: Kubernetes documentation, "ConfigMaps" (mounted ConfigMaps are updated automatically: the
strategy "Cache"), "Service Accounts" (token volume projection: a token is renewed after 80 % of its
lifetime).
"""

from collections.abc import Mapping
from typing import Any

from immutables import Map
from msgspec.structs import replace

from refk8s.core.api.authentication_v1 import BoundObjectReference, TokenRequest, TokenRequestSpec
from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.request import NO_OPTIONS, Options, Request, Response
from refk8s.core.api.resources import (
    CLUSTER_TRUST_BUNDLES,
    CONFIG_MAPS,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    SECRETS,
    SERVICE_ACCOUNTS,
)
from refk8s.core.context import MINUTE, SECOND, Instant, parse_timestamp
from refk8s.core.value import Value

MISSING_SECONDS_MAX = 10
READ_SECONDS_MAX = 15
TOKEN_SECONDS = 3607
UNUSED_DROPPED_AFTER: Instant = 10 * MINUTE


class Held(Value, frozen=True):
    """One object as last read; None: the API server does not have it.

    It is read again after `good_until`. `waiting`: the pods to reconcile after the response.
    `as_of` is a revision of the store that the response is at least as new as, and `asked_as_of` is
    the same of the last request.
    """

    value: Any = None
    read: bool = False
    good_until: Instant = 0
    requested_at: Instant = 0  # 0: no request is in transit
    misses: int = 0
    as_of: int = -1
    requested_as_of: int = -1
    waiting: tuple[str, ...] = ()


NOT_HELD = Held()


class NotYet(Exception):
    """A needed object has been requested, and the response is missing."""


def config_map_key(namespace: str, name: str) -> str:
    return f"configmaps/{namespace}/{name}"


def secret_key(namespace: str, name: str) -> str:
    return f"secrets/{namespace}/{name}"


def claim_key(namespace: str, name: str) -> str:
    return f"persistentvolumeclaims/{namespace}/{name}"


def volume_key(name: str) -> str:
    return f"persistentvolumes//{name}"


def trust_bundle_key(name: str) -> str:
    return f"clustertrustbundles//{name}"


def signer_key(signer: str) -> str:
    """The key of the list of a signer's trust bundles. No name of a signer has a backslash."""
    return "signers//" + signer.replace("/", "\\")


def token_key(pod: Pod, audience: str, seconds: int) -> str:
    metadata = pod.metadata
    account = pod.spec.service_account_name or "default"
    return (
        f"tokens/{metadata.namespace}/{account}/{metadata.name}/{metadata.uid}/{seconds}/{audience}"
    )


_RESOURCES = {
    one.plural: one
    for one in (
        CONFIG_MAPS, SECRETS, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, CLUSTER_TRUST_BUNDLES,
    )
}  # fmt: skip
_SIGNER = "spec.signerName="


def compute_read(key: str, as_of: int) -> Request:
    """The request that reads this object, at least as new as this revision of the store."""
    kind, namespace, name, *rest = key.split("/", 6)
    if kind == "tokens":
        pod_name, uid, seconds, audience = rest
        spec = TokenRequestSpec(
            audiences=(audience,) if audience else None,
            expiration_seconds=int(seconds),
            bound_object_ref=BoundObjectReference(
                api_version="v1", kind="Pod", name=pod_name, uid=uid
            ),
        )
        because = f"pod {pod_name} mounts a token of its service account"
        return Request(
            "create",
            SERVICE_ACCOUNTS,
            namespace,
            name,
            "token",
            TokenRequest(spec=spec),
            because=because,
        )
    because = "a pod of this node needs it"
    if kind == "signers":
        of_signer = Options(
            field_selector=_SIGNER + name.replace("\\", "/"),
            resource_version=str(as_of) if as_of > 0 else "",
        )
        return Request("list", CLUSTER_TRUST_BUNDLES, options=of_signer, because=because)
    resource = _RESOURCES[kind]
    options = Options(resource_version=str(as_of)) if as_of > 0 else NO_OPTIONS
    return Request("get", resource, namespace, name, options=options, because=because)


def key_of_read(request: Request) -> str:
    """The key of the object that a request reads."""
    if request.subresource == "token":
        spec = request.body.spec
        audience = spec.audiences[0] if spec.audiences else ""
        bound = spec.bound_object_ref
        return f"tokens/{request.namespace}/{request.name}/{bound.name}/{bound.uid}/{spec.expiration_seconds}/{audience}"
    if request.verb == "list":
        return signer_key(request.options.field_selector.removeprefix(_SIGNER))
    return f"{request.resource.plural}/{request.namespace}/{request.name}"


def taken_in(held: Held, response: Response | None, now: Instant, kept_for: Instant) -> Held:
    """The object after a response (KUBELET-71)."""
    held = replace(held, requested_at=0, waiting=())
    if response is not None and response.ok:
        until = now + kept_for
        if isinstance(response.body, TokenRequest) and response.body.status.expiration_timestamp:
            until = (
                now + (parse_timestamp(response.body.status.expiration_timestamp) - now) * 4 // 5
            )
        return replace(
            held,
            value=response.body,
            read=True,
            good_until=until,
            misses=0,
            as_of=held.requested_as_of,
        )
    misses = min(held.misses + 1, 10)
    until = now + min(1 << (misses - 1), MISSING_SECONDS_MAX) * SECOND
    if response is not None and response.code == 404:
        return replace(
            held, value=None, read=True, good_until=until, misses=misses, as_of=held.requested_as_of
        )
    return replace(held, good_until=until, misses=misses)


def prune(objects: Map[str, Held], now: Instant) -> Map[str, Held]:
    """Drop the objects that no pod has needed for a long time, so that the memory stays bounded."""
    old = [
        key
        for key, held in objects.items()
        if held.good_until + UNUSED_DROPPED_AFTER < now and not held.requested_at
    ]
    for key in old:
        objects = objects.delete(key)
    return objects


def is_token(key: str) -> bool:
    return key.startswith("tokens/")


def has_changed(before: Held, after: Held) -> bool:
    """Whether a response changed the object."""
    if before.value is None or after.value is None:
        return before.value is not after.value
    return (
        bool(before.value.metadata.resource_version != after.value.metadata.resource_version)
        or before.value.kind == "TokenRequest"
    )


class Library:
    """The objects as one reconcile of a pod uses them.

    It collects the objects that the pod waits for, those that its volumes show, and when to
    reconcile again. `since` is the revision at which the kubelet first saw the pod: an older object
    is not used for it (KUBELET-95).
    """

    __slots__ = ("held", "mounted", "needed", "now", "since", "wake_at")

    def __init__(self, held: Mapping[str, Held], now: Instant, since: int = -1) -> None:
        self.held = held
        self.since = since
        self.now = now
        self.needed: list[str] = []
        self.mounted: list[str] = []
        self.wake_at: Instant | None = None

    def get(self, key: str) -> Any:
        """The current object, or None if there is none. Raises NotYet while a read is in
        transit."""
        held = self.held.get(key, NOT_HELD)
        if held.as_of < self.since:
            if (
                held.requested_as_of >= self.since
                and not held.requested_at
                and self.now < held.good_until
            ):
                # The read failed: it is repeated after a wait.
                self._wake(held.good_until)
            else:
                self.needed.append(key)
            raise NotYet(key)
        if self.now < held.good_until:
            if held.value is None or is_token(key):
                self._wake(held.good_until)
        else:
            deadline = (held.requested_at or self.now) + READ_SECONDS_MAX * SECOND
            if self.now < deadline:
                self.needed.append(key)
                self._wake(deadline)
                raise NotYet(key)
        if not held.read:
            raise NotYet(key)
        return held.value

    def show(self, key: str) -> Any:
        """The object for a volume, as last read.

        The node reads it again regularly, and reconciles the pod if it changed.
        """
        self.mounted.append(key)
        held = self.held.get(key, NOT_HELD)
        fresh = held.value is not None and not is_token(key) and held.as_of >= self.since
        return held.value if fresh else self.get(key)

    def _wake(self, at: Instant) -> None:
        if self.wake_at is None or at < self.wake_at:
            self.wake_at = at
