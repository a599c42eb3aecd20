"""`refk8s run`: opens the store, serves the API, and starts every component in one process.

Start: first the parts that can fail (engine, port, directory, store); a failed start leaves nothing
behind. Stop: the components, then their containers and rules (unless `--keep` is set), then the
server, then the store.
"""

import asyncio
from pathlib import Path

from refk8s.components.key_maker import start_key_maker
from refk8s.components.options import RunOptions
from refk8s.components.process import WriteLine, run_process, started


def run_cluster(options: RunOptions) -> int:
    """Run until a signal; returns the exit status. CannotRun: nothing was created."""
    keys = start_key_maker(options.shared_pki)

    async def main(write_line: WriteLine, stop: asyncio.Event) -> None:
        from refk8s.components.running_cluster import RunningCluster

        cluster = RunningCluster(options, write_line, keys)
        try:
            await cluster.start()
            started()
            write_line(cluster.ready_line)
            for manifest in options.manifests:
                from refk8s.components.manifests import apply

                for line in await apply(Path(manifest), cluster.call):
                    write_line(line)
            await stop.wait()
        finally:
            await cluster.stop()

    return run_process(main)
