"""Requests of every operation of the served OpenAPI documents, right and wrong, and bytes of no
form: each is answered, and with a 5xx code only where API-14 says so (spec/api.md).

The quick profile plays about a thousand requests, the nightly one about eighty thousand. Streams
are left out: they end at a node.
"""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openapi_cases import (
    Case,
    FuzzWorld,
    Operation,
    a_world,
    operations,
    raw_requests,
    requests,
    what_is_wrong,
)

from refk8s.core.apiserver.respond import Reply

ODD = 30
"""Of a hundred values, so many are odd."""
METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")


@cache
def base() -> FuzzWorld:
    return a_world()


@cache
def served(method: str = "") -> list[Operation]:
    """The operations of a method."""
    found = [one for one in operations(base()) if not one.is_connect]
    return [one for one in found if not method or one.method == method]


def play(cases: list[Case]) -> None:
    """Send requests one after another to a world of their own, and check each answer."""
    world = base().copy()
    for case in cases:
        reply = world.ask(case)
        if isinstance(reply, Reply):
            wrong = what_is_wrong(case.operation, reply)
            assert not wrong, f"{case}\n{wrong}"


@pytest.mark.parametrize("method", METHODS)
@given(st.data())
def test_api_14_a_request_that_follows_the_schema_is_answered(
    method: str, data: st.DataObject
) -> None:
    # Shows API-14.a API-14.b.
    play(data.draw(st.lists(requests(served(method), 0), min_size=1, max_size=4)))


@pytest.mark.parametrize("method", METHODS)
@given(st.data())
def test_api_14_a_request_with_odd_values_is_answered(method: str, data: st.DataObject) -> None:
    # Shows API-14.a API-14.b.
    play(data.draw(st.lists(requests(served(method), ODD), min_size=1, max_size=4)))


@given(st.data())
def test_api_14_bytes_of_no_form_are_answered(data: st.DataObject) -> None:
    # Shows API-14.a API-14.b.
    play(data.draw(st.lists(raw_requests(served()), min_size=1, max_size=4)))
