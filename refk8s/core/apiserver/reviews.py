"""Reviews: questions in the form of a create that is answered and not stored. Rule API-27
(spec/api.md).

They ask for the user of the request, for the user of a token, and whether a user may do something.
Source: Kubernetes documentation, "Authorization" (checking API access), "Authenticating".
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api import resources, status
from refk8s.core.api.authentication_v1 import SelfSubjectReviewStatus, TokenReviewStatus, UserInfo
from refk8s.core.api.request import Response
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import User
from refk8s.core.apiserver.access_reviews import access, rules_review
from refk8s.core.apiserver.authenticate import check_token
from refk8s.core.apiserver.exchange import Exchange

REVIEWS = (
    resources.SELF_SUBJECT_REVIEWS,
    resources.TOKEN_REVIEWS,
    resources.SELF_SUBJECT_ACCESS_REVIEWS,
    resources.SELF_SUBJECT_RULES_REVIEWS,
    resources.SUBJECT_ACCESS_REVIEWS,
    resources.LOCAL_SUBJECT_ACCESS_REVIEWS,
)


def review(exchange: Exchange) -> Response:
    """The answer, as the status of the posted object. Raises ApiError 422 for an incomplete
    question."""
    request = exchange.request
    posted = request.body
    match request.resource.kind:
        case "SelfSubjectReview":
            answer: Any = SelfSubjectReviewStatus(user_info=_info(request.user))
        case "TokenReview":
            answer = _token(exchange)
        case "SelfSubjectRulesReview":
            return Response(201, rules_review(exchange))
        case _:
            answer = access(exchange)
    return Response(201, replace(posted, status=answer))


def _info(user: User) -> UserInfo:
    return UserInfo(
        username=user.name,
        uid=user.uid or None,
        groups=user.groups or None,
        extra=dict(user.extra) or None,
    )


def _token(exchange: Exchange) -> TokenReviewStatus:
    spec = exchange.request.body.spec
    if not spec.token:
        raise ApiError(status.bad_request("token is required for TokenReview in authentication"))
    checked = check_token(
        spec.token,
        exchange.config,
        exchange.context.now,
        exchange.store,
        tuple(spec.audiences or ()),
    )
    if checked.user is None:
        return TokenReviewStatus(error=checked.problem or None)
    return TokenReviewStatus(
        authenticated=True, user=_info(checked.user), audiences=checked.audiences
    )
