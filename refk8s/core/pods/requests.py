"""Requests about a pod with its uid as precondition, so no later pod of that name is changed. Rule
OWN-6 (spec/workloads/owners.md).

Source: Kubernetes documentation, "API Concepts" (preconditions of a delete); a patch that names
another uid is a conflict.
"""

from typing import Any

from refk8s.core.api.meta_v1 import DeleteOptions, Preconditions
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import PODS

STRATEGIC_MERGE = "application/strategic-merge-patch+json"


def patch_status(pod: Any, status: dict[str, Any], because: str, note: Any = None) -> Request:
    """Merge these fields and conditions into the status of this pod."""
    metadata = pod.metadata
    body = Patch(STRATEGIC_MERGE, {"metadata": {"uid": metadata.uid}, "status": status})
    return Request(
        "patch",
        PODS,
        metadata.namespace or "",
        metadata.name or "",
        "status",
        body=body,
        because=because,
        note=note,
    )


def delete_pod(pod: Any, because: str, grace_period_seconds: int | None = None) -> Request:
    """Delete this pod, with its own grace period unless one is given."""
    metadata = pod.metadata
    options = DeleteOptions(
        grace_period_seconds=grace_period_seconds,
        preconditions=Preconditions(uid=metadata.uid),
    )
    return Request(
        "delete", PODS, metadata.namespace or "", metadata.name or "", body=options, because=because
    )
