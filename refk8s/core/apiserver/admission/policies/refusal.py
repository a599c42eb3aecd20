"""The answer to a request that a policy rejects. Rules POL-10, POL-13
(spec/admission_policies.md)."""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from refk8s.core.api import status
from refk8s.core.api.meta_v1 import StatusCause, StatusDetails
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.admission.matching import AdmissionRequest

_CODES = {"Forbidden": 403, "Unauthorized": 401, "RequestEntityTooLarge": 413}


def refused(
    kind: str,
    request: AdmissionRequest,
    policy: str,
    binding: str,
    message: str,
    reason: str = "Invalid",
) -> ApiError:
    """The answer, with the code of the reason: 422 for Invalid. `binding` is empty if the policy
    itself cannot be evaluated."""
    with_binding = f" with binding '{binding}'" if binding else ""
    words = f"{kind} '{policy}'{with_binding} denied request: {message}"
    found = status.forbidden(request.resource, request.name, words)
    details = found.details or StatusDetails()
    return ApiError(
        replace(
            found,
            code=_CODES.get(reason, 422),
            reason=reason,
            details=replace(details, causes=(StatusCause(message=words),)),
        )
    )


class Problem(NamedTuple):
    """Why a mutating policy rejects a request."""

    message: str
    reason: str


def denied(request: AdmissionRequest, problems: Sequence[Problem]) -> ApiError:
    """The answer for mutating policies: 403 with the message and reason of the first problem; every
    problem is a cause."""
    found = status.forbidden(request.resource, request.name, "")
    causes = tuple([StatusCause(message=one.message) for one in problems])
    details = replace(found.details or StatusDetails(), causes=causes)
    first = problems[0]
    return ApiError(replace(found, message=first.message, reason=first.reason, details=details))
