"""The AdmissionReview that a webhook gets, and the reading of its answer. Rules HOOK-6 to HOOK-8
(spec/webhooks.md).

Source: Kubernetes documentation, "Dynamic Admission Control" (Request, Response).
"""

from __future__ import annotations

from base64 import b64decode
from typing import Any, Final

import msgspec

from refk8s.core.api.codec import DecodeError, decode_tolerant, encode, to_tree
from refk8s.core.api.meta_v1 import Status
from refk8s.core.api.resources import Resource
from refk8s.core.api.status import ApiError, bad_request, internal_error
from refk8s.core.apiserver.admission.conditions import request_tree
from refk8s.core.apiserver.admission.matching import AdmissionRequest
from refk8s.core.apiserver.calls import (
    ANNOTATION_BYTES_MAX,
    Answered,
    AskedWebhook,
    Result,
    Unanswered,
    refused_words,
)
from refk8s.core.apiserver.patch.document import DEPTH_MAX, is_deeper
from refk8s.core.apiserver.patch.json_patch import apply_json_patch
from refk8s.core.value import Value

GROUP: Final = "admission.k8s.io"
JSON_PATCH: Final = "JSONPatch"
MUTATING, VALIDATING = "admit", "validating"
"""The types of webhooks, as metrics name them."""
TREE_DEPTH_MAX: Final = DEPTH_MAX + 16
OBJECT_BYTES_MAX: Final = 3 << 20
"""The longest object that a patch may make: as long as a request."""


class WebhookFailed(Exception):
    """The webhook has given no usable answer: `failurePolicy` decides. The message says why, as
    upstream."""


class WebhookDenied(Exception):
    """The webhook has rejected the request, with this Status."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message or "")
        self.status = status


class Admitted(Value, frozen=True):
    """The webhook has allowed the request. `patch`: the operations of its JSON patch."""

    patch: tuple[Any, ...] = ()


def write_review(version: str, uid: str, request: AdmissionRequest, resource: Resource) -> bytes:
    """The review as JSON. The objects of the request are those of `resource`'s version."""
    tree = {
        "uid": uid,
        **request_tree(request, resource),
        "object": to_tree(request.object),
        "oldObject": to_tree(request.old_object),
    }
    review = {"kind": "AdmissionReview", "apiVersion": f"{GROUP}/{version}", "request": tree}
    return encode(review)


def read_answer(
    webhook: str, version: str, uid: str, result: Result, *, is_mutating: bool
) -> Admitted:
    """What a webhook has answered. Raises WebhookFailed and WebhookDenied."""
    if type(result) is Unanswered:
        raise WebhookFailed(f"failed to call webhook: {result.why}")
    assert isinstance(result, Answered)
    if not 200 <= result.code <= 206:
        words = refused_words(result.code, result.body)
        raise WebhookFailed(f"failed to call webhook: {words}")
    response = _response(version, uid, result.body)
    if not is_mutating:
        for key in ("patch", "patchType"):
            if response.get(key) is not None:
                raise _invalid(f"validating webhook may not return response.{key}")
    patch = _patch_of(response, version)
    if response.get("allowed") is not True:
        raise WebhookDenied(_status_of(webhook, response.get("status")))
    return Admitted(_operations(patch))


class Verdict(Value, frozen=True):
    """What an answer means for the request, as upstream counts it. `code`: 0 if the API server
    itself fails. `error_type`: why it is rejected. `is_ignored`: the webhook has failed, and the
    request goes on."""

    is_rejected: bool
    code: int
    error_type: str = ""
    is_ignored: bool = False


def verdict_of(asked: AskedWebhook, uid: str, review: bytes, result: Result) -> Verdict:
    """The verdict of an answer to this review, which has this uid (HTTP-25)."""
    try:
        is_mutating = asked.type == MUTATING
        admitted = read_answer(asked.name, asked.version, uid, result, is_mutating=is_mutating)
        if admitted.patch:
            apply_patch(asked.name, msgspec.json.decode(review)["request"]["object"], admitted)
    except WebhookDenied as denied:
        assert denied.status.code is not None
        return Verdict(True, denied.status.code, "no_error")
    except WebhookFailed:
        if not asked.fails_closed:
            return Verdict(False, 500, is_ignored=True)
        return Verdict(True, 500, "calling_webhook_error")
    except ApiError:  # a patch that cannot be applied
        return Verdict(True, 0, "apiserver_internal_error")
    return Verdict(False, 200)


def apply_patch(webhook: str, tree: Any, admitted: Admitted) -> Any:
    """The tree of the reviewed object after the patch of a webhook. Raises ApiError 500, as
    upstream, for one that does not apply."""
    if tree is None:
        words = (
            f'admission webhook "{webhook}" attempted to modify the object, '
            "which is not supported for this operation"
        )
        raise ApiError(internal_error(words))
    try:
        changed = apply_json_patch(tree, list(admitted.patch))
    except ApiError as error:
        raise ApiError(internal_error(str(error))) from None
    if len(encode(changed)) > OBJECT_BYTES_MAX:
        words = f"the patched object has more than {OBJECT_BYTES_MAX} bytes"
        raise ApiError(internal_error(words))
    for key in ("kind", "apiVersion"):
        if changed.get(key) != tree.get(key):
            words = f"unable to decode the patched object: {key} was changed"
            raise ApiError(internal_error(words))
    return changed


def remarks_in(webhook: str, result: Result) -> tuple[tuple[str, ...], dict[str, str]]:
    """The warnings of an answer, and its annotations for the audit log by the webhook's name; also
    of one that denies the request."""
    if type(result) is not Answered:
        return (), {}
    try:
        tree = msgspec.json.decode(result.body)
    except (msgspec.DecodeError, RecursionError):
        return (), {}
    response = tree.get("response") if isinstance(tree, dict) else None
    if not isinstance(response, dict):
        return (), {}
    warnings, annotations = response.get("warnings"), response.get("auditAnnotations")
    texts = [one for one in warnings if isinstance(one, str)] if isinstance(warnings, list) else []
    pairs = annotations.items() if isinstance(annotations, dict) else ()
    return tuple(texts), {
        f"{webhook}/{key}": value
        for key, value in pairs
        if isinstance(value, str) and len(key) + len(value) <= ANNOTATION_BYTES_MAX
    }


def _invalid(words: str) -> WebhookFailed:
    return WebhookFailed(f"received invalid webhook response: {words}")


def _response(version: str, uid: str, body: bytes) -> dict[str, Any]:
    """The response of the review, which must be of the wanted version and name the request's
    uid."""
    try:
        tree = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        words = f"couldn't get version/kind; json parse error: {error}"
        raise WebhookFailed(f"failed to call webhook: {words}") from None
    if not isinstance(tree, dict):
        words = "couldn't get version/kind; json parse error: the answer is no JSON object"
        raise WebhookFailed(f"failed to call webhook: {words}")
    kind, api_version = tree.get("kind") or "", tree.get("apiVersion") or ""
    response = tree.get("response")
    if not isinstance(response, dict):
        raise _invalid("webhook response was absent")
    found = response.get("uid") or ""
    if version == "v1":
        if found != uid:
            raise _invalid(f'expected response.uid="{uid}", got {_quoted(found)}')
        if (kind, api_version) != ("AdmissionReview", f"{GROUP}/v1"):
            words = f"{GROUP}/v1, Kind=AdmissionReview, got {api_version}, Kind={kind}"
            raise _invalid(f"expected webhook response of {words}")
    return response


def _quoted(value: Any) -> str:
    return encode(value).decode()[:256]


def _patch_of(response: dict[str, Any], version: str) -> str:
    """The patch in Base64; both fields of it, or neither."""
    patch, kind = response.get("patch"), response.get("patchType")
    if patch is not None and not isinstance(patch, str):
        raise _invalid("response.patch is no text")
    if version == "v1":
        if patch and kind is None:
            raise _invalid("webhook returned response.patch but not response.patchType")
        if not patch and kind is not None:
            raise _invalid("webhook returned response.patchType but not response.patch")
        if patch and kind == "":
            raise _invalid('webhook returned invalid response.patchType of ""')
    if patch and version == "v1" and kind != JSON_PATCH:
        raise WebhookFailed(f"unsupported patch type {_quoted(kind)}")
    return patch or ""


def _operations(patch: str) -> tuple[Any, ...]:
    """The operations of a patch in Base64."""
    if not patch:
        return ()
    try:
        document = msgspec.json.decode(b64decode(patch, validate=True))
        if not isinstance(document, list) or is_deeper(document, TREE_DEPTH_MAX):
            raise ValueError("it is no list of operations")
    except (ValueError, RecursionError) as error:
        words = f"received undecodable patch in webhook response: {error}"
        raise WebhookFailed(words) from None
    return tuple(document)


def _status_of(webhook: str, tree: Any) -> Status:
    """The Status with which the request is rejected: that of the webhook, but never a success
    (HOOK-7)."""
    found = Status()
    if isinstance(tree, dict):
        try:
            found, _ = decode_tolerant(Status, tree)
        except DecodeError as error:
            raise WebhookFailed(f"failed to call webhook: {error}") from None
    denied = f'admission webhook "{webhook}" denied the request'
    why = found.message or found.reason
    message = f"{denied}: {why}" if why else f"{denied} without explanation"
    code = found.code if found.code is not None and 400 <= found.code <= 599 else 400
    status = found.status if found.status not in (None, "Success") else "Failure"
    return msgspec.structs.replace(found, message=message, code=code, status=status)


def refuse_dry_run(webhook: str) -> ApiError:
    """400: the webhook has side effects that a dry run must not have."""
    return ApiError(bad_request(f'admission webhook "{webhook}" does not support dry run'))
