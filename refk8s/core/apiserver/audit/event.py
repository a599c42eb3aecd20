"""The record of one stage of a request. Rules AUDIT-3 to AUDIT-5 (spec/audit.md).

Source: API reference, "kube-apiserver Audit Configuration (v1)" (Event).
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from refk8s.core.api.codec import encode, to_tree
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.user import User, info_tree
from refk8s.core.apiserver.audit.policy import COMPLETE, METADATA, REQUEST_RESPONSE, Rule
from refk8s.core.apiserver.config import Attributes
from refk8s.core.context import Instant, micro_timestamp
from refk8s.core.value import Value

EVENT_BYTES_MAX: Final = 10 << 20
"""A longer event is recorded without its objects."""

USER_AGENT_LENGTH_MAX: Final = 1024


class Audited(Value, frozen=True, eq=False):
    """What is known of a request when it has been authenticated. `impersonated`: the user that it
    acts as; None if it is its own."""

    id: str
    rule: Rule
    uri: str
    attributes: Attributes
    user: User
    impersonated: User | None
    address: str
    agent: str
    api_version: str
    received: Instant


class Ended(Value, frozen=True, eq=False):
    """What is known when the answer is there. `body`: of the answer, as JSON."""

    code: int
    request: Request | None = None
    body: bytes = b""
    annotations: Mapping[str, str] | None = None
    is_long: bool = False


def write_event(audited: Audited, stage: str, now: Instant, ended: Ended | None = None) -> bytes:
    """The event of a stage, as a line of JSON (AUDIT-4, AUDIT-5)."""
    tree = _event(audited, stage, now, ended, with_objects=True)
    text = encode(tree)
    if len(text) > EVENT_BYTES_MAX:
        tree = _event(audited, stage, now, ended, with_objects=False)
        tree["annotations"] = {**tree.get("annotations", {}), "audit.k8s.io/truncated": "true"}
        text = encode(tree)
    return text + b"\n"


def _event(
    audited: Audited, stage: str, now: Instant, ended: Ended | None, *, with_objects: bool
) -> dict[str, Any]:
    level = audited.rule.level
    tree: dict[str, Any] = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": level,
        "auditID": audited.id,
        "stage": stage,
        "requestURI": audited.uri,
        "verb": audited.attributes.verb,
        "user": info_tree(audited.user),
    }
    if audited.impersonated is not None:
        tree["impersonatedUser"] = info_tree(audited.impersonated)
    if audited.address:
        tree["sourceIPs"] = [audited.address]
    if audited.agent:
        tree["userAgent"] = audited.agent[:USER_AGENT_LENGTH_MAX]
    request = None if ended is None else ended.request
    if not audited.attributes.path:
        tree["objectRef"] = _reference(audited, request)
    if ended is not None:
        tree["responseStatus"] = _status(ended)
        if with_objects and level != METADATA:
            body = _sent(request)
            if body is not None:
                tree["requestObject"] = _shown(audited.rule, body)
        if with_objects and level == REQUEST_RESPONSE and stage == COMPLETE and ended.body:
            answer = _answer(audited.rule, ended.body)
            if answer is not None:
                tree["responseObject"] = answer
    tree["requestReceivedTimestamp"] = micro_timestamp(audited.received)
    tree["stageTimestamp"] = micro_timestamp(now)
    if ended is not None and ended.annotations:
        tree["annotations"] = dict(sorted(ended.annotations.items()))
    return tree


def _reference(audited: Audited, request: Request | None) -> dict[str, str]:
    """The object that the request is about. That of a create is named by its body."""
    about = audited.attributes
    metadata = getattr(request.body, "metadata", None) if request is not None else None
    name = about.name or (request.name if request is not None else "")
    name = name or getattr(metadata, "name", None) or ""
    found = {
        "resource": about.resource,
        "namespace": about.namespace,
        "name": name,
        "uid": getattr(metadata, "uid", None) or "",
        "apiGroup": about.group,
        "apiVersion": audited.api_version,
        "resourceVersion": getattr(metadata, "resource_version", None) or "",
        "subresource": about.subresource,
    }
    return {key: value for key, value in found.items() if value}


def _status(ended: Ended) -> dict[str, Any]:
    """The status of the answer; of a failure with its reason and message."""
    found: dict[str, Any] = {"metadata": {}, "code": ended.code}
    if ended.is_long:
        return {**found, "status": "Success", "message": "Connection closed early"}
    if ended.code < 400 or not ended.body:
        return found
    try:
        body = msgspec.json.decode(ended.body)
    except msgspec.DecodeError:
        return found
    if isinstance(body, dict) and body.get("kind") == "Status":
        kept = ("status", "message", "reason", "details")
        found |= {key: body[key] for key in kept if key in body}
    return found


def _sent(request: Request | None) -> Any:
    """The body of a request as JSON; None if it has none, or it is no object."""
    body = None if request is None else request.body
    if body is None:
        return None
    if isinstance(body, Patch):
        document = body.document
        if isinstance(document, bytes | bytearray):
            try:
                return msgspec.json.decode(document)
            except msgspec.DecodeError:
                return None
        return document
    return to_tree(body) if hasattr(body, "__struct_fields__") and hasattr(body, "kind") else None


def _answer(rule: Rule, body: bytes) -> Any:
    try:
        if not rule.omits_managed_fields:
            msgspec.json.decode(body, type=msgspec.Raw)
            return msgspec.Raw(body.strip())
        return _shown(rule, msgspec.json.decode(body))
    except msgspec.DecodeError:
        return None


def _shown(rule: Rule, tree: Any) -> Any:
    """The object, without managedFields if the rule omits them; also those of a list's items."""
    if not rule.omits_managed_fields or not isinstance(tree, dict):
        return tree
    metadata = tree.get("metadata")
    if isinstance(metadata, dict) and "managedFields" in metadata:
        rest = {key: value for key, value in metadata.items() if key != "managedFields"}
        tree = {**tree, "metadata": rest}
    items = tree.get("items")
    if isinstance(items, list):
        tree = {**tree, "items": [_shown(rule, one) for one in items]}
    return tree
