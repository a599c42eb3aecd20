"""Events expire. Rule EVENT-6 (spec/loop.md): against a plain reading of every write, and through a
running API server."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refk8s.components.apiserver import ApiServer
from refk8s.components.event_expiry import PORTION, EventExpiry
from refk8s.components.options import parse_duration
from refk8s.core.api.core_v1 import Event, ObjectReference
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import CONFIG_MAPS, EVENTS, NAMESPACES
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.event_ttl import EventTtl
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.context import MINUTE, SECOND, Instant, timestamp
from refk8s.core.store import Change, Record
from refk8s.store.local import LocalStore
from refk8s.store.memory import MemoryEngine

TTL = 60 * MINUTE
BEGIN = 1_700_000_000 * SECOND


def record_of(name: str, revision: int, version: int, created: Instant = BEGIN) -> Record[Any]:
    value = Event(
        metadata=ObjectMeta(name=name, namespace="default", creation_timestamp=timestamp(created))
    )
    return Record(f"{EVENTS.prefix}default/{name}", value, revision, revision, version)


steps = st.lists(
    st.tuples(
        st.sampled_from(["write", "delete", "other"]),
        st.sampled_from("abcd"),
        st.sampled_from([0, 1, 20, 59, 60, 61]),
        st.integers(0, 3),
    ),
    max_size=30,
)


@given(steps, st.booleans())
def test_event_6_what_was_not_written_for_the_time_is_due_and_nothing_else(
    steps: list[tuple[str, str, int, int]], restarts: bool
) -> None:
    # Shows EVENT-6.a, EVENT-6.b, EVENT-6.d.
    """Against a dictionary of the last writes; what is due is deleted at once, in portions, oldest
    first."""
    events, written, now, revision = EventTtl(TTL), {}, BEGIN, 1
    for what, name, minutes, limit in steps:
        now, revision = now + minutes * MINUTE, revision + 1
        key = f"{EVENTS.prefix}default/{name}"
        if what == "write":
            written[key] = (now, revision)
            events.changed(Change(revision, key, record_of(name, revision, 2), None), now)
        elif what == "delete" and key in written:
            del written[key]
            events.changed(Change(revision, key, None, record_of(name, revision, 1)), now)
        elif what == "other":
            other = Record(f"{CONFIG_MAPS.prefix}default/{name}", None, revision, revision, 1)
            events.changed(Change(revision, other.key, other, None), now)
        expired = sorted((at, r, k) for k, (at, r) in written.items() if at + TTL <= now)
        assert events.due(now, 1000) == [(k, r) for _, r, k in expired]
        assert events.due(now, limit) == [(k, r) for _, r, k in expired][:limit]
        assert len(events) == len(written)
        if restarts:
            events = EventTtl(TTL)
            events.load([record_of(k[-1], r, 1, at) for k, (at, r) in written.items()], now)
            assert events.due(now, 1000) == [
                (k, r)
                for _, r, k in sorted((a, r, k) for k, (a, r) in written.items() if a + TTL <= now)
            ]


def test_event_6_an_event_that_was_updated_before_a_restart_counts_from_the_restart() -> None:
    # Shows EVENT-6.d.
    events = EventTtl(TTL)
    events.load(
        [
            record_of("old", 2, 1),
            record_of("counted", 5, 3),
            record_of("future", 6, 1, BEGIN + 99 * TTL),
        ],
        BEGIN + TTL,
    )
    assert [key[-3:] for key, _ in events.due(BEGIN + TTL, 9)] == ["old"]
    assert len(events.due(BEGIN + 2 * TTL, 9)) == 3


class Clock:
    """Time that the test moves."""

    at: Instant = BEGIN

    def now(self) -> Instant:
        return self.at


def test_event_6_the_api_server_deletes_what_has_expired_and_only_that() -> None:
    # Shows EVENT-6.a, EVENT-6.b, EVENT-6.c.
    async def story() -> None:
        clock: Any = Clock()
        api = ApiServer(LocalStore(MemoryEngine(stamp)), clock)

        async def call(request: Request) -> Response:
            answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            api.submit(request, answered.set_result)
            return await answered

        def names() -> set[str]:
            return {
                record.key.rpartition("/")[2] for record in api.store.list(EVENTS.prefix).records
            }

        async def write(verb: str, name: str) -> None:
            revision = found.value.metadata.resource_version if verb == "update" else None
            metadata = ObjectMeta(name=name, namespace="default", resource_version=revision)
            body = Event(
                metadata=metadata, involved_object=ObjectReference(namespace="default"), reason=verb
            )
            response = await call(Request(verb, EVENTS, "default", name, body=body, user=ADMIN))
            assert response.ok, response.body

        from refk8s.core.api.core_v1 import Namespace

        assert (
            await call(
                Request(
                    "create",
                    NAMESPACES,
                    name="default",
                    body=Namespace(metadata=ObjectMeta(name="default")),
                    user=ADMIN,
                )
            )
        ).ok
        expiry = EventExpiry(api, call, ADMIN, TTL / SECOND)
        for number in range(PORTION + 10):
            await write("create", f"old-{number}")
        await write("create", "counted")
        clock.at += TTL // 2
        found = api.store.get(f"{EVENTS.prefix}default/counted")
        assert found is not None
        await write("update", "counted")
        await write("create", "young")
        clock.at += TTL // 2
        assert await expiry.expire() is True, "a portion, and there is more"
        assert len(names()) == 12
        assert await expiry.expire() is False
        assert names() == {"counted", "young"}
        revision = api.store.revision
        assert await expiry.expire() is False and api.store.revision == revision
        clock.at += TTL // 2
        await expiry.expire()
        assert names() == set()
        api.stop()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1h", 3600), ("90s", 90), ("1h30m", 5400), ("1.5h", 5400), ("500ms", 0.5)],
)
def test_event_6_the_time_is_written_as_in_kubernetes(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    for wrong in ("", "1", "h", "1d", "-1h", "1h ", "1e3s"):
        with pytest.raises(ValueError):
            parse_duration(wrong)
