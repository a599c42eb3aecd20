"""Memory and disk of a cluster after many writes whose objects are deleted again.

    python benchmarks/growth.py                    memory, SQLite, and a running cluster; 2 minutes
    python benchmarks/growth.py --etcd             the same with an etcd on this machine
    python benchmarks/growth.py --writes 60000     fewer writes

Each form runs in a process of its own. `api` creates, changes and deletes objects of a kilobyte at
an API server; `run` scales a Deployment between 0 and 60 pods in a cluster with all components. A
line has the writes so far, the resident memory, and the size of the files of the store. A cluster
that does not grow has the same numbers in its last lines.
"""

import argparse
import asyncio
import ctypes
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

LINES = 8
LIVE = 100  # objects at a time
VALUE = "x" * 1000
AT_ONCE = 64


def report(form: str, writes: int, directory: Path) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    resident = pages * resource.getpagesize() / 1e6
    disk = sum(each.stat().st_size for each in directory.rglob("*") if each.is_file()) / 1e6
    spent = time.process_time()
    print(
        f"{form:14s} {writes:8,d} writes  {resident:6.0f} MB resident  {disk:6.1f} MB on disk"
        f"  {spent:6.1f} s of processor time",
        flush=True,
    )


async def churn(store_url: str, writes: int, form: str, directory: Path) -> None:
    """Creations, changes and deletions of config maps at an API server on this store."""
    from refk8s.components.apiserver import ApiServer
    from refk8s.components.clock import Clock
    from refk8s.core.api import codec
    from refk8s.core.api.core_v1 import ConfigMap, Namespace
    from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta
    from refk8s.core.api.request import Request
    from refk8s.core.api.resources import CONFIG_MAPS, NAMESPACES
    from refk8s.core.api.user import ADMIN
    from refk8s.core.apiserver.lifecycle import stamp
    from refk8s.core.apiserver.stored import decode_stored, encode_stored
    from refk8s.store.open import open_store

    assert codec
    store, _ = await open_store(store_url, encode_stored, decode_stored, stamp)
    api = ApiServer(store, Clock())

    def call(request: Request) -> asyncio.Future[Any]:
        future = asyncio.get_running_loop().create_future()
        api.submit(request, lambda answer: None if future.done() else future.set_result(answer))
        return future

    namespace = Namespace(metadata=ObjectMeta(name="default"))
    await call(Request("create", NAMESPACES, body=namespace, user=ADMIN))
    done = 0

    async def live(worker: int) -> None:
        nonlocal done
        number = worker
        while done < writes:
            name = f"c{number}"
            for data in ("create", "update", "delete"):
                body: Any = ConfigMap(metadata=ObjectMeta(name=name), data={"key": data + VALUE})
                body = DeleteOptions() if data == "delete" else body
                answer = await call(
                    Request(data, CONFIG_MAPS, "default", name, body=body, user=ADMIN)
                )
                assert answer is not None and answer.ok, answer
                done += 1
            number += AT_ONCE

    async def tell() -> None:
        told = 0
        while done < writes:
            await asyncio.sleep(0.2)
            if done >= (told + 1) * writes // LINES:
                told = done * LINES // writes
                report(form, done, directory)

    await asyncio.gather(tell(), *[live(worker) for worker in range(AT_ONCE)])
    await asyncio.sleep(5)  # for what is still being discarded
    ctypes.CDLL(None).malloc_trim(0)
    report(f"{form}, after", done, directory)
    api.stop()
    await store.close()


async def run(store_url: str, seconds: float, form: str, directory: Path) -> None:
    """A whole cluster in this process, whose Deployment is scaled up and down all the time."""
    from etcd_server import free_ports

    from refk8s.components.options import RunOptions
    from refk8s.components.running_cluster import RunningCluster
    from refk8s.core.api import codec
    from refk8s.core.api.apps_v1 import Deployment
    from refk8s.core.api.request import Patch, Request
    from refk8s.core.api.resources import DEPLOYMENTS, PODS
    from refk8s.core.api.user import ADMIN

    options = RunOptions(
        store=store_url, port=free_ports(1)[0], data_dir=str(directory / "data"), adapter="fake", nodes=5,
    )  # fmt: skip
    cluster = RunningCluster(options, lambda line: None)
    await cluster.start()
    tree = {
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "main", "image": "app"}]},
            },
        },
    }  # fmt: skip
    body = codec.from_tree(Deployment, tree)
    await cluster.call(Request("create", DEPLOYMENTS, "default", "web", body=body, user=ADMIN))
    begin, told = time.monotonic(), 0
    api = cluster.served.api
    assert api is not None
    while (now := time.monotonic()) < begin + seconds:
        for replicas in (60, 0):
            patch = Patch("application/merge-patch+json", {"spec": {"replicas": replicas}})
            await cluster.call(
                Request("patch", DEPLOYMENTS, "default", "web", body=patch, user=ADMIN)
            )
            while len(api.store.list(PODS.prefix).records) != replicas:
                await asyncio.sleep(0.05)
        if now >= begin + told * seconds / LINES:
            told += 1
            report(form, api.store.revision, directory)
    ctypes.CDLL(None).malloc_trim(0)
    report(f"{form}, after", api.store.revision, directory)
    await cluster.stop()


def one(form: str, writes: int) -> None:
    with tempfile.TemporaryDirectory(prefix="refk8s-growth-") as name:
        directory = Path(name)
        kind, _, store = form.partition(" ")
        if store == "etcd":
            from etcd_server import EtcdServer

            server = EtcdServer(directory / "etcd")
            server.start()
            try:
                asyncio.run(churn(f"etcd://{server.endpoint}", writes, form, directory / "none"))
            finally:
                server.kill()
            return
        url = "memory" if store == "memory" else f"sqlite:{directory / 'store.db'}"
        if kind == "run":
            asyncio.run(run(url, writes / 5_000, form, directory))
        else:
            asyncio.run(churn(url, writes, form, directory))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--writes", type=int, default=230_000)
    parser.add_argument("--etcd", action="store_true")
    parser.add_argument(
        "--form", help="only this: 'api memory', 'api sqlite', 'api etcd', 'run sqlite'"
    )
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        one(arguments.form, arguments.writes)
        return
    forms = ["api memory", "api sqlite", "run sqlite", *(["api etcd"] if arguments.etcd else [])]
    for form in [arguments.form] if arguments.form else forms:
        command = [sys.executable, __file__, "--inside", "--form", form]
        writes = min(arguments.writes, 60_000) if form == "api etcd" else arguments.writes
        subprocess.run([*command, "--writes", str(writes)], check=True, env=os.environ)


if __name__ == "__main__":
    main()
