"""Status: the answer to a request that fails. There is one constructor for each reason. `ApiError`
carries a Status through the stages of a request.

Source: Kubernetes documentation, "Kubernetes API Concepts"; API conventions, "Response Status
Kind".
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from refk8s.core.api.meta_v1 import ListMeta, Status, StatusCause, StatusDetails
from refk8s.core.api.resources import Resource
from refk8s.core.value import Value

REQUIRED = "FieldValueRequired"
INVALID = "FieldValueInvalid"
FORBIDDEN = "FieldValueForbidden"
NOT_SUPPORTED = "FieldValueNotSupported"
DUPLICATE = "FieldValueDuplicate"
TOO_LONG = "FieldValueTooLong"
TOO_MANY = "FieldValueTooMany"
NOT_FOUND = "FieldValueNotFound"
TYPE_INVALID = "FieldValueTypeInvalid"
INTERNAL = "InternalError"

_WORDS = {
    REQUIRED: "Required value",
    INVALID: "Invalid value",
    FORBIDDEN: "Forbidden",
    NOT_SUPPORTED: "Unsupported value",
    DUPLICATE: "Duplicate value",
    TOO_LONG: "Too long",
    TOO_MANY: "Too many",
    NOT_FOUND: "Not found",
    TYPE_INVALID: "Invalid value",
    INTERNAL: "Internal error",
}


OMITTED: Any = object()
"""As the value of a cause: it is not in the message."""


class Cause(Value, frozen=True):
    """One violation of one field. `detail` may be empty; `value` is in the message unless it is
    `SECRET`."""

    reason: str
    field: str  # "spec.containers[0].name"
    detail: str = ""
    value: Any = None

    @property
    def message(self) -> str:
        """Kubernetes' form: `Invalid value: "x": must be ...`."""
        words = _WORDS[self.reason]
        shown = (
            ""
            if self.reason in (REQUIRED, FORBIDDEN, TOO_LONG, TOO_MANY, INTERNAL)
            or self.value is OMITTED
            else f": {show(self.value)}"
        )
        return (
            f"{words}{shown}{': ' if self.detail else ''}{self.detail}"
            if shown or self.detail
            else words
        )


def show(value: Any) -> str:
    """A value as in Kubernetes' messages: strings in quotes, numbers plain, other values as JSON;
    long ones are cut."""
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError, UnicodeEncodeError):
        text = repr(value)
    return text if len(text) <= 300 else text[:297] + "..."


class ApiError(Exception):
    """The client's mistake, as the Status to answer with."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message or "")
        self.status = status


def failure(code: int, reason: str, message: str, details: StatusDetails | None = None) -> Status:
    """A Status of Failure."""
    return Status(
        metadata=ListMeta(),
        status="Failure",
        message=message,
        reason=reason,
        details=details,
        code=code,
    )


def success(code: int = 200, details: StatusDetails | None = None) -> Status:
    """A Status of Success."""
    return Status(
        metadata=ListMeta(), status="Success", details=details, code=code if code != 200 else None
    )


def qualified(resource: Resource) -> str:
    """The resource with its group, as in messages: `pods`, `deployments.apps`."""
    return qualified_name(resource.group, resource.plural)


def qualified_name(group: str, plural: str) -> str:
    """The plural with its group, if it has one."""
    return f"{plural}.{group}" if group else plural


def _details(resource: Resource, name: str, **more: Any) -> StatusDetails:
    return StatusDetails(
        name=name or None, group=resource.group or None, kind=resource.plural, **more
    )


def not_found(resource: Resource, name: str) -> Status:
    return failure(
        404, "NotFound", f'{qualified(resource)} "{name}" not found', _details(resource, name)
    )


def already_exists(resource: Resource, name: str) -> Status:
    return failure(
        409,
        "AlreadyExists",
        f'{qualified(resource)} "{name}" already exists',
        _details(resource, name),
    )


_MODIFIED = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


def conflict(resource: Resource, name: str, why: str = _MODIFIED) -> Status:
    message = f'Operation cannot be fulfilled on {qualified(resource)} "{name}": {why}'
    return failure(409, "Conflict", message, _details(resource, name))


def forbidden(
    resource: Resource, name: str, why: str, causes: Sequence[StatusCause] = ()
) -> Status:
    subject = f'{qualified(resource)} "{name}"' if name else qualified(resource)
    return failure(
        403,
        "Forbidden",
        f"{subject} is forbidden: {why}",
        _details(resource, name, causes=tuple(causes) or None),
    )


def invalid(resource: Resource, name: str, causes: Sequence[Cause]) -> Status:
    """422: the object was decoded and is not valid. As upstream, the details have the kind and not
    the plural."""
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    # An update is checked by the general rules and by those of its kind, which overlap: a cause may
    # occur twice, its text once.
    texts = list(dict.fromkeys(f"{cause.field}: {cause.message}" for cause in causes))
    joined = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    details = StatusDetails(
        name=name or None,
        group=resource.group or None,
        kind=resource.kind or None,
        causes=tuple(
            StatusCause(reason=cause.reason, message=cause.message, field=cause.field)
            for cause in causes
        )
        or None,
    )
    return failure(422, "Invalid", f'{kind} "{name}" is invalid: {joined}', details)


def bad_request(message: str) -> Status:
    return failure(400, "BadRequest", message)


def unauthorized() -> Status:
    return failure(401, "Unauthorized", "Unauthorized")


def path_not_found() -> Status:
    return failure(
        404, "NotFound", "the server could not find the requested resource", StatusDetails()
    )


def method_not_allowed(resource: Resource | None = None) -> Status:
    return failure(
        405,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
        StatusDetails(),
    )


def not_acceptable(message: str) -> Status:
    return failure(406, "NotAcceptable", message)


def unsupported_media_type(message: str) -> Status:
    return failure(415, "UnsupportedMediaType", message)


def too_large(message: str) -> Status:
    return failure(413, "RequestEntityTooLarge", message)


def too_many_requests(message: str) -> Status:
    return failure(429, "TooManyRequests", message)


def request_timeout(message: str) -> Status:
    """408: the request did not arrive in time."""
    return failure(408, "RequestTimeout", message)


def uri_too_long() -> Status:
    return failure(414, "RequestURITooLong", "the URL of the request is too long")


def header_fields_too_large() -> Status:
    return failure(
        431, "RequestHeaderFieldsTooLarge", "the headers of the request are too many or too long"
    )


def expired(message: str) -> Status:
    """410: the requested revision is compacted."""
    return failure(410, "Expired", message)


def unexplained(message: str) -> Status:
    """500 without a reason: an error of the storage that upstream returns unchanged. Only if a rule
    requires it (API-14)."""
    return Status(metadata=ListMeta(), status="Failure", message=message, code=500)


def internal_error(message: str) -> Status:
    return failure(500, "InternalError", f"Internal error occurred: {message}")


def unavailable(message: str) -> Status:
    return failure(503, "ServiceUnavailable", message)
