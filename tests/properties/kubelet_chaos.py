"""Random lives of one node: what a tape of numbers makes happen to it, and what must hold at every
moment of it.

A number of the tape is one thing that happens: mostly one delivery out of those that are possible
(an operation carried out, a request answered, events handed over), now and then a change by a user,
a fault, a crash of the agent, or time that passes. After the tape everything is mended and left
alone for long; then it must have settled.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from kubelet_bench import Bench, make_pod
from msgspec.structs import replace

from refk8s.adapters.fake import world as fake
from refk8s.core.api.core_v1 import (
    Container,
    ContainerPort,
    EnvVar,
    ExecAction,
    Lifecycle,
    LifecycleHandler,
    Pod,
    Probe,
    SleepAction,
    TCPSocketAction,
)
from refk8s.core.api.request import Request
from refk8s.core.api.resources import PODS
from refk8s.core.context import SECOND
from refk8s.core.machine import Ran, RuntimeChanged
from refk8s.core.ports import RUNNING, CreateContainer, PodsListed, StartContainer, StopContainer
from refk8s.core.properties.predicates.kubelet import (
    kubelet_4_one_sandbox_one_attempt,
    kubelet_16_restart_count_never_decreases,
    kubelet_30_status_reports_what_runs,
    kubelet_42_only_pods_of_the_api,
)
from refk8s.core.properties.predicates.pod import (
    pod_10_phase_never_goes_back,
    pod_12_status_is_consistent,
    pod_18_start_time_is_set_once,
)

IMAGES = ("example.invalid/app:1", "example.invalid/app:2", "example.invalid/other:1")
NAMES = ("p", "q", "r")


def container(name: str = "c", image: str = IMAGES[0], **more: Any) -> Container:
    return Container(
        name=name, image=image, image_pull_policy=more.pop("pull", "IfNotPresent"), **more
    )


def scripted(name: str = "c", **script: str) -> Container:
    return container(
        name,
        env=tuple(EnvVar(name=f"FAKE_{key.upper()}", value=value) for key, value in script.items()),
    )


def shell(name: str, line: str, **more: Any) -> Container:
    return container(name, command=("sh", "-c", line), **more)


EXEC = ExecAction(command=("check",))
PROBE = Probe(exec=EXEC, period_seconds=5, failure_threshold=2)
HOOKS = Lifecycle(
    post_start=LifecycleHandler(exec=EXEC), pre_stop=LifecycleHandler(sleep=SleepAction(seconds=3))
)

# What users ask for. Each is made anew under one of three names, so that pods follow each other
# under one name.
PODS_TO_TRY: tuple[Callable[[str], Pod], ...] = (
    lambda name: make_pod(name),
    lambda name: make_pod(name, (container("a"), container("b"), container("c"))),
    lambda name: make_pod(name, (shell("c", "sleep 2; exit 1"),)),
    lambda name: make_pod(
        name, (shell("c", "sleep 2; exit 0"), container("d")), restart_policy="OnFailure"
    ),
    lambda name: make_pod(
        name, (shell("c", "sleep 3"), shell("d", "exit 2")), restart_policy="Never"
    ),
    lambda name: make_pod(
        name,
        (container("c"),),
        init_containers=(
            shell("i", "sleep 1"),
            container("s", restart_policy="Always"),
            shell("j", "true"),
        ),
    ),
    lambda name: make_pod(
        name,
        (container("c"),),
        init_containers=(shell("i", "sleep 1; exit 1"),),
        restart_policy="Never",
    ),
    lambda name: make_pod(
        name, (scripted("c", stop_seconds="20"), container("d", lifecycle=HOOKS))
    ),
    lambda name: make_pod(
        name,
        (replace(scripted("c", ready_seconds="7"), readiness_probe=PROBE, startup_probe=PROBE),),
    ),
    lambda name: make_pod(
        name, (replace(scripted("c", healthy_seconds="12"), liveness_probe=PROBE),)
    ),
    lambda name: make_pod(name, active_deadline_seconds=5, restart_policy="OnFailure"),
    lambda name: make_pod(
        name, (container("c", image="example.invalid/missing:1"), container("d"))
    ),
    lambda name: make_pod(name, (scripted("c", start_error="no such file"),)),
    lambda name: make_pod(
        name, (container("c", ports=(ContainerPort(container_port=80, host_port=80),)),)
    ),
    lambda name: make_pod(
        name,
        (container("c", readiness_probe=Probe(tcp_socket=TCPSocketAction(port=80))),),
        termination_grace_period_seconds=2,
    ),
)


class Chaos:
    """A bench whose life is checked at every step."""

    def __init__(self, seed: int = 0) -> None:
        self.bench = Bench(seed)
        self.bench.check = self.look
        self.seen: set[str] = set()  # the sometimes: what interesting states were reached
        # pod uid -> the longest grace period that was ever asked for
        self.longest: dict[str, int] = {}
        self.checked = {"operations": 0, "requests": 0}
        self.bench.start()

    # --- what happens -----------------------------------------------------------------------------

    def play(self, tape: list[int]) -> "Chaos":
        for number in tape:
            self.happen(number)
            self.look()
        return self

    def happen(self, number: int) -> None:
        kind, rest = number % 32, number // 32
        bench, name = self.bench, NAMES[rest % 3]
        if kind in (0, 15, 16) and not bench.has_pod(name):
            bench.add(PODS_TO_TRY[(rest // 3) % len(PODS_TO_TRY)](name))
        elif kind == 1:
            bench.delete(name, (None, 30, 5, 1)[(rest // 3) % 4])
        elif kind == 2 and rest % 4 == 0:
            bench.delete(name, 0)
        elif kind == 3:
            bench.start()
            self.seen.add("agent restarted")
        elif kind == 4 and bench.world.running():
            victim = bench.world.running()[rest % len(bench.world.running())]
            bench.disturb(
                lambda world, now: fake.crash_container(world, victim.id, (rest // 8) % 3, now)
            )
        elif kind == 5 and bench.world.pods:
            uid = sorted(bench.world.pods)[rest % len(bench.world.pods)]
            bench.disturb(lambda world, now: fake.crash_sandbox(world, uid, now))
            self.seen.add("sandbox crashed")
        elif kind == 6 and rest % 4 == 0:
            bench.disturb(fake.crash_node)
        elif kind == 7:
            bench.api_away = not bench.api_away
        elif kind == 8:
            fault = ("sandbox_error", "create_error", "start_error", "stop_error", "down")[rest % 5]
            bench.world = fake.set_faults(
                bench.world, **{fault: "" if (rest // 5) % 2 else "broken by force"}
            )
        elif kind == 9 and bench.has_pod(name):
            pod = bench.pod(name)
            changed = replace(pod.spec.containers[0], image=IMAGES[(rest // 3) % 3])
            spec = replace(pod.spec, containers=(changed, *pod.spec.containers[1:]))
            bench.put(
                PODS,
                replace(
                    pod,
                    spec=spec,
                    metadata=replace(pod.metadata, generation=(pod.metadata.generation or 1) + 1),
                ),
            )
        elif kind in (10, 11, 12, 13):
            at = bench.next_instant()
            bench.elapse_to(
                bench.now + (rest % 20) * SECOND // 2 if at is None or kind == 13 else at
            )
        elif kind == 14:
            bench.settle()
        elif kind == 17:  # Results of different operations may come in any order.
            places = [i for i, event in enumerate(bench.inbox) if isinstance(event, Ran)]
            for i, event in zip(places, [bench.inbox[i] for i in reversed(places)], strict=True):
                bench.inbox[i] = event
        elif kind == 18 and rest % 2 == 0:
            # The runtime knows that something changed, and not what.
            bench.inbox.append(RuntimeChanged())
        elif choices := bench.choices():
            bench.do(choices[rest % len(choices)])

    def mend(self, seconds: float = 1500) -> "Chaos":
        """Everything works again, for long."""
        self.bench.api_away = False
        self.bench.world = replace(self.bench.world, faults=fake.Faults())
        self.bench.run_for(seconds)
        self.look()
        return self

    # --- what must hold ---------------------------------------------------------------------------

    def runtime(self) -> PodsListed:
        return self.runtime_of(self.bench)

    @staticmethod
    def runtime_of(bench: Bench) -> PodsListed:
        """Everything that the simulated runtime holds."""
        pods = [bench.world.pods[uid] for uid in sorted(bench.world.pods)]
        sandboxes = tuple(sandbox for pod in pods for sandbox in pod.sandboxes)
        return PodsListed(
            sandboxes,
            tuple(bench.world.containers[id].status for pod in pods for id in pod.containers),
        )

    def look(self) -> None:
        """The invariants, on what is new since the last look."""
        bench = self.bench
        wrong = kubelet_4_one_sandbox_one_attempt(self.runtime())
        for memory in bench.memory().pods.values():
            assert not (memory.listing and memory.busy), (
                f"KUBELET-44: {memory.name} is listed while it is changed"
            )
        for versions in bench.history.values():
            for before, after in pairwise(versions):
                wrong += pod_10_phase_never_goes_back(
                    before, after
                ) + kubelet_16_restart_count_never_decreases(before, after)
                wrong += pod_18_start_time_is_set_once(before, after)
            for version in versions:
                graces = (
                    version.spec.termination_grace_period_seconds,
                    version.metadata.deletion_grace_period_seconds,
                    2,
                )
                uid = version.metadata.uid or ""
                self.longest[uid] = max(self.longest.get(uid, 0), *[grace or 0 for grace in graces])
                wrong += pod_12_status_is_consistent(version)
                self.seen.add(str(version.status.phase))
                for status in version.status.container_statuses or ():
                    if status.state.waiting is not None:
                        self.seen.add(str(status.state.waiting.reason))
            del versions[:-1]
        for request in bench.requests[self.checked["requests"] :]:
            wrong += self.final_delete_is_late(request)
        self.checked["requests"] = len(bench.requests)
        for _, operation, _ in bench.operations[self.checked["operations"] :]:
            wrong += self.grace_is_what_was_asked(operation)
            self.seen.add(type(operation).__name__)
        self.checked["operations"] = len(bench.operations)
        assert not wrong, wrong

    def final_delete_is_late(self, request: Request) -> list[str]:
        """KUBELET-32: nothing of the pod is on the node when the kubelet gives it up."""
        if request.verb != "delete":
            return []
        uid = request.body.preconditions.uid
        left = [
            s.id
            for s in self.bench.world.pods.get(uid, fake.NO_POD).sandboxes
            if s.id not in self.bench.posthumous
        ]
        self.seen.add("final delete")
        return [f"KUBELET-32: {uid} is deleted, and {left} is left"] if left else []

    def grace_is_what_was_asked(self, operation: Any) -> list[str]:
        """POD-3: no container gets longer than its pod's grace period, nor less than a second."""
        if not isinstance(operation, StopContainer):
            return []
        longest = self.longest[operation.pod_uid]
        return (
            []
            if 1 <= operation.grace_period_seconds <= longest
            else [f"POD-3: {operation} with a grace period of at most {longest} s"]
        )

    def settled(self) -> None:
        """What must be true in the end (KUBELET-30, KUBELET-42)."""
        bench = self.bench
        known = [pod.metadata.uid or "" for pod in bench.table(PODS).values()]
        wrong = kubelet_42_only_pods_of_the_api(self.runtime(), known)
        for pod in bench.table(PODS).values():
            wrong += kubelet_30_status_reports_what_runs(pod, self.runtime())
            assert pod.metadata.deletion_timestamp is None, (
                f"{pod.metadata.name} is still being deleted"
            )
        assert not wrong, wrong
        requests = [r for r in bench.requests if r.resource == PODS and r.subresource == "status"]
        bench.settle()
        assert requests == [
            r for r in bench.requests if r.resource == PODS and r.subresource == "status"
        ]


__all__ = [
    "RUNNING",
    "Chaos",
    "CreateContainer",
    "StartContainer",
    "container",
    "scripted",
    "shell",
]
