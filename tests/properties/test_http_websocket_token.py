"""Bearer tokens among the subprotocols of a WebSocket. Rule HTTP-27 (spec/http.md)."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refk8s.components.websocket import OFFERED, offered_protocols, take_token
from refk8s.core.api.status import ApiError

BEARER = "base64url.bearer.authorization.k8s.io."
NAME = b"sec-websocket-protocol"
protocols = st.lists(
    st.from_regex(r"\A[a-z0-9.]{1,12}\Z").filter(lambda one: not one.startswith(BEARER)),
    max_size=3,
)


def written(token: str) -> str:
    return BEARER + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


def headers(offered: list[str], name: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (name, ", ".join(offered).encode())]


@given(st.text(min_size=1), protocols, protocols, st.sampled_from((NAME, OFFERED)))
def test_http_27_the_token_is_taken_and_the_other_protocols_stay(token, before, after, name):
    scope = {"headers": headers([*before, written(token), *after], name)}
    if not (before or after):
        with pytest.raises(ApiError, match="Unauthorized"):
            take_token(scope)
        return
    assert take_token(scope) == token
    assert scope["headers"] == headers([*before, *after], name)
    if name == OFFERED:
        assert offered_protocols(scope) == (*before, *after)


@given(protocols.filter(bool), st.sampled_from((NAME, OFFERED)))
def test_http_27_without_a_token_nothing_is_changed(offered, name):
    scope = {"headers": headers(offered, name)}
    assert take_token(scope) is None and scope["headers"] == headers(offered, name)


texts = st.one_of(
    st.text(st.characters(codec="latin-1", exclude_characters=","), max_size=20),
    st.text(min_size=1).map(lambda token: written(token).removeprefix(BEARER)),
    st.text(min_size=1).map(lambda token: base64.urlsafe_b64encode(token.encode()).decode()),
)


@given(texts, st.booleans())
def test_http_27_what_is_no_token_is_refused_and_never_passed_on(text, twice):
    """A second token too, in the same header or in another one."""
    offered = ["v5", BEARER + text]
    scope = {"headers": [(NAME, ", ".join(offered).encode("latin-1"))]}
    if twice:
        scope["headers"].append((NAME, f"v4, {written('x')}".encode()))
    try:
        token = take_token(scope)
    except ApiError as refused:
        assert refused.status.code == 401
    else:
        assert not twice and token
        assert written(token) == BEARER + text.strip()
    assert not any(BEARER.encode() in value for _, value in scope["headers"])
