"""The start of an API server on a store whose answers may be lost. Rule HOST-22 (spec/host.md)."""

import asyncio
import logging
from collections import Counter
from functools import cache, partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from refk8s.components import bootstrapping
from refk8s.components.apiserver import UNKNOWN, ApiServer
from refk8s.components.clock import Clock
from refk8s.components.cluster_info import publish
from refk8s.components.files import CannotRun
from refk8s.components.range_flags import service_ranges
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.resources import CLUSTER_ROLES, CONFIG_MAPS, SERVICE_CIDRS, SERVICES, load
from refk8s.core.api.user import API_SERVER
from refk8s.core.apiserver.admission.outcome import AdmissionConfig
from refk8s.core.apiserver.authorize.default_policy import WITHDRAWN
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.context import SECOND
from refk8s.core.store import Delete, Put, Txn
from refk8s.core.store_port import StoreUnavailable, StoreUnknown
from refk8s.core.value import evolve
from refk8s.store.local import LocalStore
from refk8s.store.memory import MemoryEngine

FAULTS = ["lost", "late", "done", "full"]


class FaultyStore:
    """A store that answers some transactions and refreshes with a fault.

    `lost` did not take effect, `done` did, and `late` takes effect after the next read; all
    three are reported as unknown. `full` is reported as unavailable.
    """

    is_current = False

    def __init__(self) -> None:
        self.inner = LocalStore(MemoryEngine(stamp))
        self.faults: dict[int, str] = {}  # by the number of the call
        self.calls = 0
        self.seen: Counter[str] = Counter()
        self.late: list[Txn] = []

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def _fault(self) -> str:
        self.calls += 1
        fault = self.faults.get(self.calls, "")
        self.seen[fault] += 1
        return fault

    def submit(self, txn, done):
        fault = self._fault()
        if not fault:
            self.inner.submit(txn, done)
        elif fault == "full":
            asyncio.get_running_loop().call_soon(done, StoreUnavailable("full"))
        else:
            if fault == "late":
                self.late.append(txn)
            if fault == "done":
                self.inner.submit(txn, lambda outcome: done(StoreUnknown("lost")))
            else:
                asyncio.get_running_loop().call_soon(done, StoreUnknown("lost"))

    def refresh(self, done):
        failed = StoreUnavailable("no quorum") if self._fault() else None
        asyncio.get_running_loop().call_soon(done, failed)
        asyncio.get_running_loop().call_soon(self._take_late)

    def _take_late(self) -> None:
        """Let what was reported as unknown take effect, after the read that looked for it."""
        late, self.late = self.late, []
        for txn in late:
            self.inner.submit(txn, lambda outcome: None)

    async def wait(self, seconds: float) -> None:
        """Take the place of a delay."""

    async def write(self, txn: Txn) -> None:
        done = asyncio.get_running_loop().create_future()
        self.inner.submit(txn, done.set_result)
        await done


class StoppedClock(Clock):
    """All objects have the same times, so that runs can be compared."""

    def now(self) -> int:
        return 1_700_000_000 * SECOND


class World:
    """An API server on such a store."""

    def __init__(self) -> None:
        self.store = FaultyStore()
        self.api = ApiServer(self.store, StoppedClock())
        self.config = self.api.config.admission

    async def call(self, request: Request):
        answered = asyncio.get_running_loop().create_future()
        self.api.submit(request, answered.set_result)
        return await answered or UNKNOWN

    async def start(self, config: AdmissionConfig | None = None) -> None:
        config = config or self.config
        await bootstrapping.bootstrap(self.call, config, "127.0.0.1", 6443, self.store.wait)
        await bootstrapping.allocate_missing_numbers(
            self.store, self.api.context, config, self.store.wait
        )

    def objects(self) -> dict[str, object]:
        """What the cluster has, without what differs between two runs."""
        found = {}
        for record in self.store.list("/").records:
            metadata = evolve(
                record.value.metadata,
                uid="",
                resource_version="",
                creation_timestamp=None,
                managed_fields=(),
            )
            found[record.key] = evolve(record.value, metadata=metadata)
        return found


def run(main) -> None:
    async def in_world() -> None:
        world = World()
        try:
            await main(world)
        finally:
            world.api.stop()

    asyncio.run(in_world())


async def make_older(world: World) -> None:
    """Leave what an earlier version of the cluster could have: a role that lacks rules, a second
    one that is gone, one that is withdrawn, one range of addresses, and a service without its
    address."""
    for resource, name in WITHDRAWN:
        record_type: Any = load(resource.module, resource.kind)
        old = record_type(metadata=ObjectMeta(name=name, uid="u"))
        await world.store.write(Txn((), (Put(resource.key("", name), old),)))
    for record in world.store.list(f"{CLUSTER_ROLES.prefix}").records[:3]:
        await world.store.write(Txn((), (Put(record.key, evolve(record.value, rules=())),)))
    for record in world.store.list(f"{CLUSTER_ROLES.prefix}").records[3:5]:
        await world.store.write(Txn((), (Delete(record.key),)))


DUAL = AdmissionConfig(service_ranges("10.96.0.0/12,fd00:96::/112"))


@cache
def objects_without_faults() -> dict[str, object]:
    found = {}

    async def main(world: World) -> None:
        await world.start()
        await make_older(world)
        await world.start(DUAL)
        found.update(world.objects())

    run(main)
    return found


@given(
    st.dictionaries(st.integers(1, 400), st.sampled_from(FAULTS), max_size=40),
    st.dictionaries(st.integers(1, 400), st.sampled_from(FAULTS), max_size=40),
)
@settings(max_examples=6, deadline=None, phases=[Phase.explicit, Phase.generate])
def test_host_22_whatever_answers_are_lost_the_start_leaves_the_same_objects(first, second):
    # Shows HOST-22.a HOST-22.b HOST-22.c HOST-22.d.
    found = {}

    async def with_faults(world: World) -> None:
        world.store.faults = first
        await world.start()
        world.store.faults = {}
        await make_older(world)
        world.store.calls, world.store.faults = 0, second
        await world.start(DUAL)
        found.update(world.objects())

    run(with_faults)
    assert found == objects_without_faults()
    assert not [name for _, name in WITHDRAWN if any(name in key for key in found)]
    cidr = found[SERVICE_CIDRS.key("", "kubernetes")]
    assert len(cidr.spec.cidrs) == 2, "the second start has corrected it"
    assert found[SERVICES.key("default", "kubernetes")].spec.cluster_ip == "10.96.0.1"


@pytest.mark.parametrize("fault", FAULTS)
def test_host_22_each_fault_of_the_first_write_is_overcome(fault, caplog):
    async def main(world: World) -> None:
        world.store.faults = dict.fromkeys(range(2, 12), fault)
        with caplog.at_level(logging.WARNING):
            await world.start()
        assert world.store.seen[fault] == 10

    run(main)


def test_host_22_a_store_that_stays_away_ends_the_start_in_one_line_after_a_bounded_time():
    # Shows HOST-22.e.
    waited = Counter()

    async def main(world: World) -> None:
        world.store.faults = dict.fromkeys(range(1, 10_000), "full")

        async def wait(seconds: float) -> None:
            waited[seconds] += 1

        world.store.wait = wait
        with pytest.raises(CannotRun) as refused:
            await world.start()
        assert "\n" not in str(refused.value) and "no quorum" in str(refused.value)
        assert not [task for task in asyncio.all_tasks() if "_ensure" in repr(task)]

    run(main)
    delays = sorted(waited)
    assert delays[0] == 0.05 and delays[-1] == 10.0 and len(delays) == 9
    assert all(after == min(2 * before, 10) for before, after in pairwise(delays))


@given(st.dictionaries(st.integers(1, 20), st.sampled_from(FAULTS), max_size=10))
@settings(max_examples=6, deadline=None)
def test_host_22_the_config_maps_that_others_read_are_written(faults):
    async def main(world: World) -> None:
        await world.start()
        world.store.calls, world.store.faults = 0, faults
        step = partial(publish, "kube-public", "info", {"a": "1"}, world.call, "others read it")
        response = await bootstrapping.until_known(step, world.store.wait)
        assert response.ok or response.code == 409
        world.store.faults = {}
        where = (CONFIG_MAPS, "kube-public", "info")
        found = await world.call(Request("get", *where, user=API_SERVER))
        assert found.body.data == {"a": "1"}

    run(main)
