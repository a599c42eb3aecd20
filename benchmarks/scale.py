"""How the cost of a pod grows with the cluster, in one process and in separate ones.

    python benchmarks/scale.py --nodes 500                      one process; about 2 minutes
    python benchmarks/scale.py --nodes 500 --form processes     API server, controllers, scheduler, kubelets
    python benchmarks/scale.py --nodes 500 --form two           control plane, and kubelets in another process
    python benchmarks/scale.py --nodes 100 --pods-per-node 10 --form all      1,000 replicas, all forms

Every simulated node gets `--pods-per-node` pods (30 unless told otherwise) of one Deployment. The
figures: the time until all pods run, and the processor time of every process for one pod; the
resident memory, all and for one pod; and the part of a processor that the cluster takes when it is
idle. The processor time means something on a busy machine too, the time does not, least of all
that of several processes.

Measured in one process on a quiet machine with 2 cores, Python 3.11, 2026-12-01: 150,000 pods on
5,000 nodes ran after 456 s, with 3.08 ms of processor time and 14.6 kB a pod (2,559 MB in all);
idle, the cluster took 66 % of a processor. With 500 nodes a pod took 2.33 ms, with 1,500 it took
2.93 (2026-11-30, busier).

In four processes, beside other programs with load averages of 24 to 36 on 2 cores, 2026-12-01, one
run each: 1,500 pods on 150 nodes took 8.93 ms of processor time a pod (API server 4.32, controllers
1.10, kubelets 2.69, scheduler 0.83) and 465 MB in all; 4,500 pods on 450 nodes took 9.52 ms (4.32,
1.15, 3.20, 0.85) and 793 MB. The growth is that of idle nodes: their part of a processor, 2.1 and
5.6 %, over the 33 and 119 s of these runs is 0.5 and 1.5 ms a pod.
"""

import argparse
import http.client
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from control_plane import free_port, processor_seconds

IDLE_SECONDS = 30
LIMIT_SECONDS = 3 * 3600
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


class Cluster:
    """The processes of one form, and a connection to the API server."""

    def __init__(self, form: str, nodes: int) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="refk8s-scale-"))
        self.port = free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        kubeconfig = self.directory / "kubeconfig"
        server = ("--port", str(self.port), "--data-dir", str(self.directory))
        if form == "processes":
            self.start("apiserver", *server)
        else:
            here = nodes if form == "run" else 0
            self.start("run", "--adapter", "fake", "--nodes", str(here), *server)
        while not kubeconfig.exists():
            time.sleep(0.02)
        self.token = (self.directory / "pki/admin.token").read_text().strip()
        self.connect()
        while self.call("GET", "/readyz")[0] != 200:
            time.sleep(0.02)
        client = ("--kubeconfig", str(kubeconfig))
        if form == "processes":
            self.start("controller-manager", *client, "--secure-port", "0")
            self.start("scheduler", *client, "--secure-port", "0")
        if form != "run":
            self.start("kubelet", "--nodes", str(nodes), *client, "--healthz-port", "0")

    def start(self, command: str, *flags: str) -> None:
        with (self.directory / f"{command}.log").open("wb") as log:
            self.processes[command] = subprocess.Popen(
                [sys.executable, "-m", "refk8s.cli.main", command, *flags], stdout=log, stderr=log
            )

    def connect(self) -> None:
        self.connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=ssl._create_unverified_context(), timeout=120
        )

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        for name, process in self.processes.items():
            if process.poll() is not None:
                text = (self.directory / f"{name}.log").read_text()[-2000:]
                raise SystemExit(f"{name} has ended: {text}")
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            data = None if body is None else json.dumps(body)
            self.connection.request(method, path, data, headers)
            answer = self.connection.getresponse()
            text = answer.read()
        except OSError:
            self.connect()
            return 0, {}
        return answer.status, json.loads(text) if text[:1] == b"{" else text

    def count(self, path: str) -> int:
        """The number of objects, from a page of one."""
        listed = self.call("GET", f"{path}?limit=1")[1]
        if not isinstance(listed, dict) or "items" not in listed:
            return 0
        return len(listed["items"]) + (listed["metadata"].get("remainingItemCount") or 0)

    def spent(self) -> dict[str, float]:
        """The processor time of each process, in seconds."""
        return {name: processor_seconds(each.pid) for name, each in self.processes.items()}

    def resident_mb(self) -> dict[str, float]:
        found = {}
        for name, process in self.processes.items():
            text = Path(f"/proc/{process.pid}/status").read_text()
            found[name] = int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024  # type: ignore[index]
        return found

    def stop(self) -> None:
        for process in reversed(list(self.processes.values())):
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def progress(words: str, done: int, total: int, begin: float) -> None:
    """A bar on a terminal; else a line every tenth."""
    part = done / total if total else 1.0
    seconds = time.monotonic() - begin
    line = f"{words:9s} {done:7,d} of {total:,d}  {seconds:5.0f} s"
    if sys.stderr.isatty():
        bar = "#" * int(30 * part)
        print(
            f"\r[{bar:30s}] {line}", end="" if done < total else "\n", file=sys.stderr, flush=True
        )
    elif progress.__dict__.get("said") != (words, int(10 * part)):
        progress.__dict__["said"] = (words, int(10 * part))
        print(line, file=sys.stderr, flush=True)


def wait_for(cluster: Cluster, words: str, total: int, count: Any) -> float:
    begin = time.monotonic()
    while (done := count()) < total:
        progress(words, done, total, begin)
        if time.monotonic() - begin > LIMIT_SECONDS:
            raise SystemExit(f"only {done} of {total} {words} after {LIMIT_SECONDS} s")
        time.sleep(0.2)
    progress(words, total, total, begin)
    return time.monotonic() - begin


def measure(form: str, nodes: int, pods_per_node: int) -> dict[str, float]:
    pods = nodes * pods_per_node
    cluster = Cluster(form, nodes)
    try:
        joined = wait_for(cluster, "nodes", nodes, lambda: cluster.count("/api/v1/nodes"))
        time.sleep(5)
        before, bare = cluster.spent(), sum(cluster.resident_mb().values())
        template = {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "nginx"}]},
        }
        spec = {"replicas": pods, "selector": {"matchLabels": {"app": "web"}}, "template": template}
        code, answer = cluster.call(
            "POST", DEPLOYMENTS, {"metadata": {"name": "web"}, "spec": spec}
        )
        assert code == 201, answer

        def ready() -> int:
            status = cluster.call("GET", f"{DEPLOYMENTS}/web")[1]
            return int((status.get("status") or {}).get("readyReplicas") or 0) if status else 0

        seconds = wait_for(cluster, "running", pods, ready)
        time.sleep(10)  # Events that are still written
        after, memory = cluster.spent(), cluster.resident_mb()
        time.sleep(IDLE_SECONDS)
        idle = cluster.spent()
    finally:
        cluster.stop()
    spent = {name: after[name] - before[name] for name in after}
    total = sum(spent.values())
    resident = sum(memory.values())
    resting = (sum(idle.values()) - sum(after.values())) / IDLE_SECONDS
    print(f"\n{form}: {nodes:,} nodes, {pods:,} pods (nodes registered after {joined:.1f} s)")
    print(f"  all running           {seconds:8.1f} s")
    print(f"  processor time a pod  {1e3 * total / pods:8.2f} ms")
    for name, part in sorted(spent.items()) if len(spent) > 1 else ():
        print(f"    {name:19s} {1e3 * part / pods:8.2f} ms   {memory[name]:7.0f} MB")
    print(
        f"  resident              {resident:8.0f} MB   "
        f"{1e3 * (resident - bare) / pods:.1f} kB a pod"
    )
    print(f"  idle                  {100 * resting:8.1f} % of a processor", flush=True)
    return {"seconds": seconds, "spent": total, "resident": resident}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nodes", type=int, action="append")
    parser.add_argument("--pods-per-node", type=int, default=30)
    parser.add_argument("--form", choices=("run", "two", "processes", "both", "all"), default="run")
    arguments = parser.parse_args()
    several = {"both": ("run", "processes"), "all": ("run", "two", "processes")}
    forms = several.get(arguments.form, (arguments.form,))
    print(f"{os.cpu_count()} processors")
    for nodes in arguments.nodes or [500]:
        found = [measure(form, nodes, arguments.pods_per_node) for form in forms]
        one = found[0]
        for form, other in zip(forms[1:], found[1:], strict=True):
            print(
                f"  {form} beside one: {one['seconds'] / other['seconds']:.2f} times as fast,"
                f" {other['spent'] / one['spent']:.2f} of its processor time,"
                f" {other['resident'] / one['resident']:.2f} of its memory"
            )


if __name__ == "__main__":
    main()
