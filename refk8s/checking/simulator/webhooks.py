"""Webhooks of simulated runs: servers that are slow, unreachable or wrong at times. Rules
CLUSTER-18 (spec/cluster.md), HOOK-8 to HOOK-11 (spec/webhooks.md).

The mutating server adds a label to pods, and the validating one rejects pods without it. Whatever
goes wrong is a function of the seed and of the call, so it never lasts: a request that is sent
again has another id.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import blake2b
from typing import Any, Final

import msgspec

from refk8s.core.apiserver.calls import Answered, Call, Result, Unanswered
from refk8s.core.context import MILLISECOND, SECOND, Instant

LABEL: Final = "example.com/seen"
CALL_MILLISECONDS_MAX: Final = 50
SLOW_SECONDS_MAX: Final = 9


class SimulatedWebhooks:
    """`faults`: the share of calls, of 256, that go wrong."""

    def __init__(self, seed: int, faults: int = 96) -> None:
        self._seed = seed.to_bytes(8, "big", signed=True)
        self._faults = faults

    def answer(self, call: Call, now: Instant) -> tuple[Instant, Result]:
        """When the call ends, and how."""
        draw = blake2b(call.id.encode(), key=self._seed, digest_size=4).digest()
        request = msgspec.json.decode(call.body)["request"]
        good = Answered(200, msgspec.json.encode(_review(call, request, request["uid"])))
        soon = now + draw[1] % CALL_MILLISECONDS_MAX * MILLISECOND
        if draw[0] >= self._faults:
            return soon, good
        match draw[2] % 5:
            case 0:  # slow, perhaps too slow
                seconds = 1 + draw[3] % SLOW_SECONDS_MAX
                if seconds < call.seconds:
                    return now + seconds * SECOND, good
                return now + int(call.seconds * SECOND), _late(call)
            case 1:
                return now + int(call.seconds * SECOND), _late(call)
            case 2:
                return soon, Unanswered(f'Post "{call.url}": connection refused')
            case 3:
                return soon, Answered(500, b"oops")
        return soon, Answered(200, msgspec.json.encode(_review(call, request, "another")))

    def complaints(self, obj: Any) -> tuple[str, ...]:
        """A pod that both servers have seen has the label."""
        if obj.kind != "Pod" or LABEL in (obj.metadata.labels or {}):
            return ()
        return (f"pod {obj.metadata.name} was stored without the label of its webhook",)


def _late(call: Call) -> Unanswered:
    return Unanswered(f'Post "{call.url}": context deadline exceeded')


def _review(call: Call, request: dict[str, Any], uid: str) -> dict[str, Any]:
    labels = ((request.get("object") or {}).get("metadata") or {}).get("labels") or {}
    response: dict[str, Any] = {"uid": uid, "allowed": True}
    if "/mutate" in call.url and LABEL not in labels:
        patch = [{"op": "add", "path": "/metadata/labels", "value": {**labels, LABEL: "yes"}}]
        document = b64encode(msgspec.json.encode(patch)).decode()
        response |= {"patchType": "JSONPatch", "patch": document}
    elif "/validate" in call.url and LABEL not in labels:
        response |= {"allowed": False, "status": {"code": 403, "message": "no label"}}
    kind = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
    return {**kind, "response": response}


def configurations() -> tuple[dict[str, Any], ...]:
    """The manifests of the configurations that name these servers."""
    rule = {
        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
    }  # fmt: skip
    found = []
    for kind, path in (("Mutating", "mutate"), ("Validating", "validate")):
        webhook = {
            "name": f"{path}.example.com",
            "clientConfig": {"url": f"https://webhooks.example/{path}"},
            "rules": [rule],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 5,
        }
        found.append({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": f"{kind}WebhookConfiguration",
            "metadata": {"name": path},
            "webhooks": [webhook],
        })  # fmt: skip
    return tuple(found)
