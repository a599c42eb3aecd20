"""Rules of webhooks as predicates. Source: spec/webhooks.md."""

from collections.abc import Iterable


def hook_11_a_stored_object_was_allowed(complaints: Iterable[str]) -> Iterable[str]:
    """HOOK-11: what the webhooks that must be asked would not have allowed is not stored."""
    return tuple(complaints)
