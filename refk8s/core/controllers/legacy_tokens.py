"""Token secrets that a controller has made and nobody uses. Rules SA-5, SA-7
(spec/workloads/service_account.md).

| the token secret | what the cleaner does |
|---|---|
| created or used within a year, or mounted, or made by a user | nothing |
| otherwise, without `legacy-token-invalid-since` | sets this label, so the token is refused |
| otherwise, a year after that day | deletes the Secret |

Uses are known from the day that the API server has noted in a ConfigMap.
Source: Kubernetes documentation, "Managing Service Accounts" (legacy ServiceAccount token cleaner).
"""

from collections.abc import Iterable
from typing import Any, Final

from msgspec.structs import replace

from refk8s.core.api.core_v1 import ConfigMap, Secret, ServiceAccount
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta, Preconditions
from refk8s.core.api.request import Patch, Request, Response
from refk8s.core.api.resources import CONFIG_MAPS, PODS, SECRETS, SERVICE_ACCOUNTS
from refk8s.core.api.token_secret import (
    ACCOUNT_NAME,
    ACCOUNT_UID,
    DAY,
    INVALID_SINCE,
    LAST_USED,
    TOKEN_SECRET,
    TRACKING_KEY,
    TRACKING_NAME,
    TRACKING_NAMESPACE,
    day_of,
    is_generated,
    label_of,
    read_day,
)
from refk8s.core.api.user import API_SERVER
from refk8s.core.context import SECOND, Instant, parse_timestamp
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, no_keys, own_key
from refk8s.core.loop.view import View, key_of
from refk8s.core.pods.references import references
from refk8s.core.value import Value

CLEAN_UP_PERIOD: Final[Instant] = 365 * DAY
"""How long a token is not used before it is refused, and then before its Secret is deleted."""
SYNC_INTERVAL: Final[Instant] = DAY
RETRY: Final[Instant] = 30 * SECOND
TRACKING: Final = f"{TRACKING_NAMESPACE}/{TRACKING_NAME}"


class Tracked(Value, frozen=True):
    """What the ConfigMap says: since which day uses are recorded. `at`: when it was read; None
    while the answer is awaited."""

    since: str = ""
    at: Instant | None = None


def _own(view: View, old: Any | None, new: Any | None) -> tuple[Key, ...]:
    return (key_of(new),) if new is not None and new.type == TOKEN_SECRET else ()


class LegacyTokenCleaner(Reconciler):
    """SA-7: reconciles one token secret."""

    name = "legacy-service-account-token-cleaner"
    interests = (
        Interest(SECRETS, _own),
        Interest(SERVICE_ACCOUNTS, no_keys),
        Interest(PODS, no_keys),
    )

    def start_memory(self, now: Instant) -> Tracked:
        return Tracked()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        memory: Tracked = local.memory
        secret: Secret | None = view.get(SECRETS, key)
        if (
            secret is None
            or secret.type != TOKEN_SECRET
            or secret.metadata.deletion_timestamp is not None
        ):
            return NOTHING
        spared_until = _spared_until(secret)

        # Decide
        if spared_until is None:
            return NOTHING
        if now < spared_until:
            return Plan(wake_at=spared_until)
        if not _is_unused(secret, view):
            return Plan(wake_at=now + SYNC_INTERVAL)
        if memory.at is None or now >= memory.at + SYNC_INTERVAL:
            return Plan(queries=(_tracking_query(),), wake_at=now + RETRY)
        since = read_day(memory.since)
        if since is None:
            return Plan(wake_at=now + SYNC_INTERVAL)
        if now < since + DAY + CLEAN_UP_PERIOD:
            return Plan(wake_at=since + DAY + CLEAN_UP_PERIOD)

        # Act
        refused = read_day(label_of(secret, INVALID_SINCE))
        if refused is None:
            return Plan(((_mark(secret, now),),))
        if now < _end_of(refused):
            return Plan(wake_at=_end_of(refused))
        return Plan(((_deletion(secret),),))

    def answered(
        self, memory: Tracked, key: Key, request: Request, response: Response | None, now: Instant
    ) -> tuple[Tracked, Iterable[Key]]:
        """Keep since when uses are recorded; without the ConfigMap nothing is cleaned."""
        if response is None or (not response.ok and response.code != 404):
            return memory, ()
        data = (response.body.data or {}) if response.ok else {}
        return Tracked(data.get(TRACKING_KEY, ""), now), (key,)


def _spared_until(secret: Secret) -> Instant | None:
    """When the Secret has existed for the period, and its last use is as long ago; None if the day
    of its use cannot be read."""
    created = parse_timestamp(secret.metadata.creation_timestamp or "1970-01-01T00:00:00Z")
    # upstream spares a Secret that is exactly as old as the period
    spared_until = created + CLEAN_UP_PERIOD + SECOND
    used = label_of(secret, LAST_USED)
    if used is None:
        return spared_until
    last = read_day(used)
    return None if last is None else max(spared_until, _end_of(last))


def _end_of(day: Instant) -> Instant:
    """When the period after this day ends: days are compared, not times."""
    return day + DAY + CLEAN_UP_PERIOD


def _is_unused(secret: Secret, view: View) -> bool:
    """Whether a controller made the Secret, and no pod has it."""
    metadata, annotations = secret.metadata, secret.metadata.annotations or {}
    namespace, name = metadata.namespace or "", metadata.name or ""
    account: ServiceAccount | None = view.get(
        SERVICE_ACCOUNTS, f"{namespace}/{annotations.get(ACCOUNT_NAME)}"
    )
    if account is None or annotations.get(ACCOUNT_UID, "") not in ("", account.metadata.uid):
        return False
    if not is_generated(secret, account):
        return False
    return not any(
        ("secrets", name) in references(pod)
        for pod in view.list(PODS)
        if pod.metadata.namespace == namespace
    )


def _tracking_query() -> Request:
    because = "token secrets are cleaned once their uses are recorded"
    return Request("get", CONFIG_MAPS, TRACKING_NAMESPACE, TRACKING_NAME, because=because)


def _mark(secret: Secret, now: Instant) -> Request:
    metadata = secret.metadata
    document = {"metadata": {"uid": metadata.uid, "labels": {INVALID_SINCE: day_of(now)}}}
    return Request(
        "patch",
        SECRETS,
        metadata.namespace or "",
        metadata.name or "",
        body=Patch("application/merge-patch+json", document),
        because="its token was not used for a year",
    )


def _deletion(secret: Secret) -> Request:
    metadata = secret.metadata
    preconditions = Preconditions(resource_version=metadata.resource_version)
    return Request(
        "delete",
        SECRETS,
        metadata.namespace or "",
        metadata.name or "",
        body=DeleteOptions(preconditions=preconditions),
        because="its token has been refused for a year",
    )


class LegacyTokenTracking(Reconciler):
    """SA-5: keeps the ConfigMap that says since when uses are recorded. The API server runs it."""

    name = "legacy-token-tracking"
    user = API_SERVER
    interests = (
        Interest(
            CONFIG_MAPS,
            own_key,
            field_selector=f"metadata.namespace={TRACKING_NAMESPACE},metadata.name={TRACKING_NAME}",
        ),
    )
    initial_keys = (TRACKING,)

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        if key != TRACKING:
            return NOTHING
        found: ConfigMap | None = view.get(CONFIG_MAPS, key)

        # Decide
        if found is not None and read_day((found.data or {}).get(TRACKING_KEY)) is not None:
            return NOTHING
        said = {TRACKING_KEY: day_of(now)}

        # Act
        because = "it says since when uses of token secrets are recorded"
        where = (CONFIG_MAPS, TRACKING_NAMESPACE, TRACKING_NAME)
        if found is None:
            metadata = ObjectMeta(name=TRACKING_NAME, namespace=TRACKING_NAMESPACE)
            body, verb = ConfigMap(metadata=metadata, data=said), "create"
        else:
            body, verb = replace(found, data={**(found.data or {}), **said}), "update"
        return Plan(((Request(verb, *where, body=body, because=because),),))
