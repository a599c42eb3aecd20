"""Conversion of custom objects between versions by a webhook. Rules CRD-26 to CRD-28
(spec/custom_resources.md).

All objects of a request that need it are converted by one call (a list, for example). The webhook
may change everything but the metadata, of which labels and annotations are its own. Source:
Kubernetes documentation, "Versions in CustomResourceDefinitions" (Webhook conversion).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from refk8s.core.api import status
from refk8s.core.api.codec import DecodeError, encode, to_tree
from refk8s.core.api.custom import CustomObject
from refk8s.core.api.resources import Resource
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.calls import (
    ANSWER_BYTES_MAX,
    Answered,
    Call,
    Calls,
    Client,
    Result,
    Unanswered,
    ask,
    client_of,
    refused_words,
    timed,
)
from refk8s.core.apiserver.custom import objects as custom_objects

GROUP: Final = "apiextensions.k8s.io"
TIMEOUT_SECONDS: Final = 30


class _Failed(Exception):
    """The conversion has failed; the message says why."""


def is_by_webhook(resource: Resource) -> bool:
    """Whether versions of this custom resource are converted by a webhook."""
    conversion = resource.definition.crd.spec.conversion
    return conversion is not None and conversion.strategy == "Webhook"


def convert(
    calls: Calls | None, target: Resource, found: Sequence[CustomObject]
) -> list[CustomObject]:
    """The objects in the version of `target`. Those that have it already are not sent. Raises
    ApiError 500, without a reason as upstream, if the webhook fails; Needed."""
    version = target.api_version
    waiting = [obj for obj in found if obj.api_version != version]
    if not waiting:
        return list(found)
    conversion = target.definition.crd.spec.conversion
    webhook = conversion.webhook
    versions = [one for one in webhook.conversion_review_versions if one in ("v1", "v1beta1")]
    review = versions[0] if versions else "v1"
    client = client_of(webhook.client_config)
    trees = [to_tree(obj) for obj in waiting]
    source = f"{waiting[0].api_version}, Kind={target.kind}"
    (result,) = ask(calls, lambda known: _call(known, client, review, version, trees))
    assert calls is not None
    uid = _uid(calls, client, review, version, trees)
    try:
        answer = _read(result, review, uid)
    except _Failed as failed:
        words = f"conversion webhook for {source} failed: {failed}"
        raise ApiError(status.unexplained(words)) from None
    if len(answer) != len(waiting):
        words = f"returned {len(answer)} objects, expected {len(waiting)}"
        raise ApiError(status.unexplained(f"conversion webhook for {source} {words}"))
    made = iter(
        [
            _accept(target, obj, tree, place, source)
            for place, (obj, tree) in enumerate(zip(waiting, answer, strict=True))
        ]
    )
    return [obj if obj.api_version == version else next(made) for obj in found]


def _tree(review: str, uid: str, version: str, trees: list[Any]) -> dict[str, Any]:
    return {
        "kind": "ConversionReview",
        "apiVersion": f"{GROUP}/{review}",
        "request": {"uid": uid, "desiredAPIVersion": version, "objects": trees},
    }


def _uid(calls: Calls, client: Client, review: str, version: str, trees: list[Any]) -> str:
    return calls.id_of(client.url.encode(), encode(_tree(review, "", version, trees)))


def _call(calls: Calls, client: Client, review: str, version: str, trees: list[Any]) -> Call:
    uid = _uid(calls, client, review, version, trees)
    body = encode(_tree(review, uid, version, trees))
    return Call(
        uid,
        timed(client.url, TIMEOUT_SECONDS),
        client.service,
        client.ca_bundle,
        body,
        TIMEOUT_SECONDS,
        max(ANSWER_BYTES_MAX, 4 * len(body)),
    )


def _read(result: Result, review: str, uid: str) -> list[Any]:
    """The converted objects of an answer. Raises _Failed."""
    if type(result) is Unanswered:
        raise _Failed(result.why)
    assert isinstance(result, Answered)
    if not 200 <= result.code <= 206:
        raise _Failed(refused_words(result.code, result.body))
    try:
        tree = msgspec.json.decode(result.body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _Failed(f"couldn't get version/kind; json parse error: {error}") from None
    response = tree.get("response") if isinstance(tree, dict) else None
    if not isinstance(response, dict):
        raise _Failed("no response provided")
    if review == "v1":
        if response.get("uid") != uid:
            shown = encode(response.get("uid") or "").decode()[:256]
            raise _Failed(f'expected response.uid="{uid}", got {shown}')
        kind, version = tree.get("kind") or "", tree.get("apiVersion") or ""
        if (kind, version) != ("ConversionReview", f"{GROUP}/v1"):
            wanted = f"{GROUP}/v1, Kind=ConversionReview"
            raise _Failed(f"expected webhook response of {wanted}, got {version}, Kind={kind}")
    answer = response.get("result")
    answer = answer if isinstance(answer, dict) else {}
    if answer.get("status") != "Success":
        message = answer.get("message")
        if isinstance(message, str) and message:
            raise _Failed(message[:2048])
        raise _Failed(f"response.result.status was '{answer.get('status') or ''}', not 'Success'")
    converted = response.get("convertedObjects")
    return converted if isinstance(converted, list) else []


def _accept(target: Resource, obj: CustomObject, tree: Any, place: int, source: str) -> Any:
    """The converted object with the metadata of the original one. Raises ApiError 500."""
    where = f"conversion webhook for {source} returned invalid converted object at index {place}"
    if not isinstance(tree, dict):
        raise ApiError(status.unexplained(f"{where}: it is no object"))
    version, kind = tree.get("apiVersion"), tree.get("kind")
    if version != target.api_version:
        words = f"invalid groupVersion (expected {target.api_version}, received {version})"
        raise ApiError(status.unexplained(f"{where}: {words}"))
    if kind != target.kind:
        words = f"invalid kind (expected {target.kind}, received {kind})"
        raise ApiError(status.unexplained(f"{where}: {words}"))
    try:
        made, _ = custom_objects.decoded(target, tree)
    except DecodeError as error:
        raise ApiError(status.unexplained(f"{where}: {error}")) from None
    before, after = obj.metadata, made.metadata
    for field, words in (("name", "name"), ("namespace", "namespace"), ("uid", "UID")):
        old, new = getattr(before, field) or "", getattr(after, field) or ""
        if old != new:
            invalid = f"must have the same {words}: {old} != {new}"
            message = f"conversion webhook for {source} returned invalid metadata: {invalid}"
            raise ApiError(status.unexplained(message))
    metadata = replace(before, labels=after.labels, annotations=after.annotations)
    return replace(made, metadata=metadata)
