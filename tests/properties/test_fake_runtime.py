"""The simulated runtime on a clock: what the world does, when it does it. The clock is the event
loop's own, and jumps."""

import asyncio
import selectors

from hypothesis import given, settings
from hypothesis import strategies as st

from refk8s.adapters.fake.runtime import FakeRuntime
from refk8s.adapters.fake.world import make_world
from refk8s.core.context import SECOND, SeededChance
from refk8s.core.ports import (
    ContainerConfig,
    CreateContainer,
    Done,
    ListPods,
    PullImage,
    RunPodSandbox,
    SandboxConfig,
    StartContainer,
    StopContainer,
)


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop that does not wait: where nothing is to be done, its clock goes on to the next
    timer."""

    def __init__(self):
        self.at = 0.0
        super().__init__(Selector(self))

    def time(self):
        return self.at


class Selector(selectors.SelectSelector):
    def __init__(self, loop):
        super().__init__()
        self.loop = loop

    def select(self, timeout=None):
        self.loop.at += timeout or 0
        return super().select(0)


def play(body):
    """Run a coroutine function on a jumping clock: it gets a runtime and the clock."""

    async def main():
        loop = asyncio.get_running_loop()
        runtime = FakeRuntime(
            make_world("node", pull_time=3 * SECOND),
            lambda: round(loop.time() * SECOND),
            SeededChance(b"x"),
        )
        try:
            return await body(runtime, loop)
        finally:
            runtime.close()

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main())


async def run(runtime, operation):
    answer = asyncio.get_running_loop().create_future()
    runtime.run(operation, answer.set_result)
    return await answer


async def start(runtime, command=(), env=()):
    """A running container of a new pod: (its id, when it was started)."""
    sandbox = (await run(runtime, RunPodSandbox(SandboxConfig("uid", "default", "p")))).status
    await run(runtime, PullImage("uid", "a", "IfNotPresent"))
    config = ContainerConfig("uid", "default", "p", "c", "a", command=command, env=env)
    made = (await run(runtime, CreateContainer(sandbox.id, config))).status
    await run(runtime, StartContainer("uid", made.id))
    return made.id, asyncio.get_running_loop().time()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100), st.integers(0, 3))
def test_a_container_that_ends_by_itself_is_told_when_it_does(seconds, code):
    async def body(runtime, loop):
        told = []
        runtime.listen(lambda uids: told.append((loop.time(), uids)))
        _, at = await start(runtime, ("sh", "-c", f"sleep {seconds}; exit {code}"))
        await asyncio.sleep(200)
        status = (await run(runtime, ListPods())).containers[0]
        assert told == [(at + seconds, ("uid",))]
        assert (status.exit_code, status.finished_at) == (code, (at + seconds) * SECOND)

    play(body)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 40), st.integers(1, 40), st.one_of(st.none(), st.integers(1, 40)))
def test_a_stop_is_answered_when_the_container_has_ended_and_a_shorter_one_hurries_it(
    takes, grace, shorter
):
    async def body(runtime, loop):
        id, at = await start(runtime, env=(("FAKE_STOP_SECONDS", str(takes)),))
        first = asyncio.ensure_future(run(runtime, StopContainer("uid", id, grace)))
        if shorter is not None:
            await asyncio.sleep(0)
            await run(runtime, StopContainer("uid", id, shorter))
        result = await first
        least = min(takes, grace, shorter or 1000)
        assert isinstance(result, Done) and result.status is not None
        assert loop.time() == at + min(takes, grace) if shorter is None else True
        assert result.status.finished_at == (at + least) * SECOND
        assert result.status.exit_code == (143 if takes <= min(grace, shorter or grace) else 137)

    play(body)


def test_a_slow_pull_takes_its_time_and_one_that_is_there_none():
    async def body(runtime, loop):
        assert (await run(runtime, PullImage("uid", "a", "IfNotPresent"))).pulled
        assert loop.time() == 3
        assert not (await run(runtime, PullImage("uid", "a", "IfNotPresent"))).pulled
        assert loop.time() == 3

    play(body)
