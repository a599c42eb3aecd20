"""`refk8s run`: opens the store, serves the API, and starts every component in one process.

Start: first the parts that can fail (engine, port, directory, store); a failed start leaves nothing
behind. Stop: the components, then their containers and rules (unless `--keep` is set), then the
server, then the store.
"""

import asyncio
from pathlib import Path

from refk8s.components.options import RunOptions
from refk8s.components.process import Say, run_process, started


def run_cluster(options: RunOptions) -> int:
    """Run until a signal; returns the exit status. CannotRun: nothing was created."""

    async def main(say: Say, stop: asyncio.Event) -> None:
        from refk8s.components.running_cluster import RunningCluster

        cluster = RunningCluster(options, say)
        try:
            await cluster.start()
            started()
            say(cluster.ready_line)
            for manifest in options.manifests:
                from refk8s.components.manifests import apply

                for line in await apply(Path(manifest), cluster.call):
                    say(line)
            await stop.wait()
        finally:
            await cluster.stop()

    return run_process(main)
