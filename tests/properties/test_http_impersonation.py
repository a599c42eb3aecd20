"""Impersonation: rules HTTP-23 (spec/http.md) and API-13 (spec/api.md)."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_http import TOKEN, USER, a_server, asked, in_loop

from refk8s.components.http import Front
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import User
from refk8s.core.apiserver.config import DEFAULT_CONFIG, Attributes, Config, Decision
from refk8s.core.apiserver.impersonate import impersonate
from refk8s.core.store import EMPTY

REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
BODY = b'{"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}'
JANE = User("jane", groups=("system:authenticated",))
NAMES = st.sampled_from(
    [
        "bob",
        "system:anonymous",
        "system:serviceaccount:a:b",
        "system:serviceaccount:a:",
        "system:serviceaccount:A:b",
    ]
)
GROUPS = st.lists(
    st.sampled_from(
        ["team", "other", "system:authenticated", "system:unauthenticated", "system:masters"]
    ),
    max_size=4,
)
EXTRA = st.lists(
    st.tuples(st.sampled_from(["why", "example.com%2fwhy", "Odd%zz"]), st.text(max_size=5)),
    max_size=4,
)


@st.composite
def sets_of_headers(draw: st.DrawFn) -> tuple[tuple[str, str], ...]:
    """Headers in any order, a name's own in theirs."""
    headers = [("impersonate-user", draw(NAMES))] if draw(st.booleans()) else []
    headers += [("impersonate-uid", "u-7")] if draw(st.booleans()) else []
    headers += [("impersonate-group", group) for group in draw(GROUPS)]
    headers += [(f"impersonate-extra-{key.lower()}", value) for key, value in draw(EXTRA)]
    return tuple(draw(st.permutations(headers)))


@given(sets_of_headers())
def test_http_23_the_user_is_who_the_headers_name_and_each_of_them_is_authorized(
    headers: tuple[tuple[str, str], ...],
) -> None:
    # Shows HTTP-23.a, HTTP-23.b, HTTP-23.c, HTTP-23.f, HTTP-23.g, HTTP-23.h, HTTP-23.i API-14.g.
    values = {name: [value for said, value in headers if said == name] for name, _ in headers}
    seen: list[Attributes] = []
    config = Config(authorizer=lambda asked, store: Decision(not seen.append(asked)))
    [name] = values.get("impersonate-user", [""])
    if not name:
        if headers:
            with pytest.raises(ApiError) as refused:
                impersonate(JANE, headers, EMPTY, config)
            assert refused.value.status.code == 500 and not seen
        else:
            assert impersonate(JANE, headers, EMPTY, config) is JANE
        return
    user = impersonate(JANE, headers, EMPTY, config)
    groups = values.get("impersonate-group", [])
    extra = {
        said.removeprefix("impersonate-extra-").replace("%2f", "/"): tuple(v)
        for said, v in values.items()
        if "-extra-" in said
    }
    assert (user.name, [user.uid] if user.uid else []) == (name, values.get("impersonate-uid", []))
    assert dict(user.extra) == extra
    implied = (
        ["system:serviceaccounts", "system:serviceaccounts:a"]
        if name == "system:serviceaccount:a:b" and not groups
        else []
    )
    mark = "system:unauthenticated" if name == "system:anonymous" else "system:authenticated"
    has_mark = mark in groups or (
        mark == "system:authenticated" and "system:unauthenticated" in groups
    )
    assert list(user.groups) == groups + implied + ([] if has_mark else [mark])
    assert all(asked.user is JANE and asked.verb == "impersonate" for asked in seen)
    account = (
        [("serviceaccounts", "a", "", "b")]
        if name == "system:serviceaccount:a:b"
        else [("users", "", "", name)]
    )
    expected = account + [("groups", "", "", group) for group in groups]
    expected += [("userextras", "", key, value) for key in extra for value in extra[key]]
    expected += [("uids", "", "", uid) for uid in values.get("impersonate-uid", [])]
    assert sorted((a.resource, a.namespace, a.subresource, a.name) for a in seen) == sorted(
        expected
    )


@given(sets_of_headers().filter(lambda headers: "impersonate-user" in dict(headers)), st.data())
def test_http_23_one_part_that_is_forbidden_forbids_the_whole(
    headers: tuple[tuple[str, str], ...], data: st.DataObject
) -> None:
    # Shows HTTP-23.c, HTTP-23.d.
    parts: list[Attributes] = []
    impersonate(
        JANE,
        headers,
        EMPTY,
        Config(authorizer=lambda asked, store: Decision(not parts.append(asked))),
    )
    denied = data.draw(st.sampled_from(parts))
    with pytest.raises(ApiError) as refused:
        impersonate(
            JANE, headers, EMPTY, Config(authorizer=lambda asked, store: Decision(asked != denied))
        )
    said = refused.value.status
    part = f"{denied.resource}/{denied.subresource}" if denied.subresource else denied.resource
    assert said.code == 403 and said.details is not None and said.details.kind == denied.resource
    assert f'User "jane" cannot impersonate resource "{part}"' in (said.message or "")


def test_http_23_the_request_is_the_named_users() -> None:
    """By HTTP; a client without credentials may impersonate nobody."""
    # Shows HTTP-23.e.

    async def test() -> None:
        front = Front(await a_server(config=Config(users={TOKEN: USER})))

        async def with_a_second_group(scope: Any, receive: Any, send: Any) -> None:
            await front(
                {**scope, "headers": [*scope["headers"], (b"impersonate-group", b"other")]},
                receive,
                send,
            )

        said = {"impersonate_user": "bob", "impersonate_group": "team", "impersonate_extra_a": "ü"}
        code, _, body = await asked(with_a_second_group, "POST", REVIEW, BODY, **said)
        assert code == 201
        assert json.loads(body)["status"]["userInfo"] == {
            "username": "bob", "groups": ["team", "other", "system:authenticated"], "extra": {"a": ["ü"]},
        }  # fmt: skip
        assert (await asked(front, "POST", REVIEW, BODY, impersonate_group="team"))[0] == 500
        assert (await asked(front, "GET", "/version", authorization="", impersonate_user="bob"))[
            0
        ] == 403
        assert (
            await asked(
                front, "GET", "/api/v1/nodes", authorization="Bearer no", impersonate_user="bob"
            )
        )[0] == 401

    in_loop(test)


def test_api_13_a_user_that_is_not_authenticated_reads_the_open_paths_alone() -> None:
    # Shows API-13.b API-13.c.
    async def test() -> None:
        front = Front(await a_server(config=Config(users={TOKEN: USER})))
        for path, code in (
            ("/version", 200),
            ("/healthz", 200),
            ("/api", 403),
            ("/api/v1/nodes", 403),
            ("/openapi/v2", 403),
        ):
            assert (await asked(front, "GET", path, impersonate_user="system:anonymous"))[
                0
            ] == code, path
        code, _, body = await asked(
            front, "POST", REVIEW, BODY, impersonate_user="system:anonymous"
        )
        assert code == 403 and json.loads(body)["details"] == {
            "group": "authentication.k8s.io",
            "kind": "selfsubjectreviews",
        }

    in_loop(test)


def test_http_23_a_name_that_is_no_accounts_is_a_users() -> None:
    for name in (
        "system:serviceaccount:",
        "system:serviceaccount:a",
        "system:serviceaccount:a:b:c",
        "system:serviceaccount::b",
    ):
        assert impersonate(JANE, (("impersonate-user", name),), EMPTY, DEFAULT_CONFIG).groups == (
            "system:authenticated",
        )
