"""One process of refk8s: its event loop, its output, its signals and its end. Rule PROC-2
(spec/processes.md).

`refk8s run` and each component that runs as a process of its own start here.
"""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Awaitable, Callable

from refk8s.components.output import Output, descriptor_of

WriteLine = Callable[[str], None]
Main = Callable[[WriteLine, asyncio.Event], Awaitable[None]]
"""Runs until the event is set, which a signal does; then it removes what it started."""


def run_process(main: Main) -> int:
    """Run `main` in an event loop until a signal; returns the exit status.

    CannotRun: nothing was created.
    """
    # States are immutable values, whose garbage is freed without a collection; the cycles are those
    # of closed connections (HTTP-7). So a collection finds little, and its time depends on the
    # objects that are alive: the rarer, the fewer of them are new.
    gc.set_threshold(200_000, 10, 100)
    gc.disable()  # until `started`: the loading of modules creates little garbage
    out, err = Output(descriptor_of(sys.stdout)), Output(descriptor_of(sys.stderr))
    logging.basicConfig(stream=err, level=logging.WARNING, format="refk8s: %(message)s")
    # its messages at the end of a watch are not useful
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    import uvloop

    async def until_a_signal() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def stopping() -> None:
            stop.set()
            # A second signal ends the process at once.
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopping)
        await main(out.write_line, stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(until_a_signal())
        finally:
            gc.enable()
            out.close()
            err.close()
    return 0


def started() -> None:
    """Exempt modules and stored objects from garbage collection: they stay until the end."""
    gc.freeze()
    gc.enable()
