"""Laws of admission webhooks. Rule HOOK-11 (spec/webhooks.md)."""

from collections.abc import Iterable
from typing import Any

from refk8s.core.api.resources import PODS, VALIDATING_WEBHOOK_CONFIGURATIONS
from refk8s.core.cluster.state import Cluster
from refk8s.core.properties.law import Law
from refk8s.core.properties.predicates.webhooks import hook_11_a_stored_object_was_allowed
from refk8s.core.store import Change


def stored_objects_were_allowed(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """HOOK-11: a new pod, after every API server has learned of a webhook that fails closed."""
    if before.webhooks is None or change.record is None or change.previous is not None:
        return None
    states = (before.history, *[cache.history for cache in before.caches.values()])
    if not all(_must_be_asked(state) for state in states):
        return None
    return hook_11_a_stored_object_was_allowed(before.webhooks.complaints(change.record.value))


def _must_be_asked(history: Any) -> bool:
    return any(
        webhook.failure_policy == "Fail"
        for record in history.list(VALIDATING_WEBHOOK_CONFIGURATIONS.prefix).records
        for webhook in record.value.webhooks or ()
    )


OF_CHANGES = (Law("HOOK-11", stored_objects_were_allowed, prefix=PODS.prefix),)
