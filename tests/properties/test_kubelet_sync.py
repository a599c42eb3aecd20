"""The next step of a pod's kubelet in full, beside a plain reading of KUBELET-10 to KUBELET-22 and
KUBELET-100 (spec/kubelet.md), and of POD-1 to POD-8 (spec/pod.md).

`test_kubelet.py` and `test_pod.py` show the same rules in a running kubelet."""

from __future__ import annotations

import json
from base64 import b64encode
from itertools import product

import pytest
from immutables import Map
from kubelet_bench import make_pod
from msgspec.structs import replace
from random_cases import cases

from refk8s.core.api.core_v1 import (
    Container,
    ContainerPort,
    ContainerRestartRule,
    ContainerRestartRuleOnExitCodes,
    EmptyDirVolumeSource,
    EphemeralContainer,
    ExecAction,
    HTTPGetAction,
    Lifecycle,
    LifecycleHandler,
    LocalObjectReference,
    PodDNSConfig,
    PodStatus,
    Probe,
    ResourceRequirements,
    Secret,
    SleepAction,
    Volume,
    VolumeMount,
)
from refk8s.core.context import SECOND, duration_text
from refk8s.core.kubelet.backoff import Backoff
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.container import (
    compute_container_config,
    compute_sandbox_config,
    spec_hash,
)
from refk8s.core.kubelet.draft import Draft, Facts
from refk8s.core.kubelet.lifecycle import (
    end,
    end_containers,
    grace_seconds,
    is_alive,
    remove_all,
    stop,
    take_down_dead_sandbox,
    why_ending,
)
from refk8s.core.kubelet.memory import (
    CHANGED,
    HOOK,
    LIVENESS,
    NEVER,
    RESIZED,
    SANDBOX,
    STARTUP,
    ContainerMemory,
    PodMemory,
    ProbeMemory,
)
from refk8s.core.kubelet.objects import Held, Library, secret_key
from refk8s.core.kubelet.sync_pod import (
    advance,
    bring_up,
    check_running,
    ephemeral_starts,
    init_starts,
    is_held_up,
    is_wanted,
    next_attempt,
    plan_containers,
    pull,
    remove_stale,
    restarts,
    sync_pod,
)
from refk8s.core.ports import ContainerStatus as Found
from refk8s.core.ports import (
    CreateContainer,
    NodeDescribed,
    PullImage,
    RegistryCredential,
    RemoveContainer,
    RemovePodSandbox,
    Resources,
    RunHook,
    RunPodSandbox,
    SandboxStatus,
    StartContainer,
    StopContainer,
    StopPodSandbox,
    UpdateContainerResources,
    WriteVolume,
)

NODE = NodeDescribed(
    "node", "10.0.0.9", 1000, 1 << 30, 1 << 30, 10, "amd64", "linux", "os", "kernel", "fake://1"
)
FACTS = Facts(KubeletConfig(), NODE)
RETRY = FACTS.config.retry_after
NOW = 1000 * SECOND
ALIVE = SandboxStatus("s", "u", "default", "p", 0, True, ips=("10.1.0.5",))
DEAD = replace(ALIVE, ready=False)


def a_container(name="c", **more) -> Container:
    return Container(name=name, image=f"{name}:1", image_pull_policy="IfNotPresent", **more)


def attempt(state="running", name="c", code=0, number=0, sandbox="s", ended=900, **more) -> Found:
    return Found(
        id=f"{name}-{number}",
        sandbox_id=sandbox,
        pod_uid="u",
        name=name,
        attempt=number,
        state=state,
        image=f"{name}:1",
        image_id="sha",
        started_at=5 * SECOND,
        finished_at=ended * SECOND if state == "exited" else 0,
        exit_code=code,
        **more,
    )


def a_pod(*containers, policy="Always", metadata=None, status=None, **spec):
    pod = make_pod("p", containers or (a_container(),), restart_policy=policy, **spec)
    return replace(
        pod,
        metadata=replace(pod.metadata, uid="u", **(metadata or {})),
        status=status or pod.status,
    )


def a_draft(pod, now=NOW, sandbox=ALIVE, facts=FACTS, containers=None, known=None, **held) -> Draft:
    """`containers` or `held`: what is remembered of each container and of the pod."""
    names = {"u": "u"}
    parts = {key: value for key, value in held.items() if key in PodMemory.__struct_fields__}
    each = {key: value for key, value in held.items() if key not in parts}
    memory = PodMemory(
        names["u"],
        "default",
        "p",
        pod=known or pod,
        containers={**(containers or {}), **each},
        sandbox=sandbox,
        **parts,
    )
    return Draft(facts, pod, memory, Library({}, now), now)


def notes(draft):
    return [(one.reason, one.message, one.type, one.container) for one in draft.memory.notes]


# --- restarts -------------------------------------------------------------------------------------


POLICIES = [None, "Always", "OnFailure", "Never"]
STOPS = ["", CHANGED, RESIZED, LIVENESS, STARTUP, SANDBOX, HOOK]


@pytest.mark.parametrize("kind", ["regular", "init", "none yet"])
@pytest.mark.parametrize("code", [0, 1, 3])
def test_kubelet_13_restarts_follow_the_policies(kind, code):
    """Shows KUBELET-13."""
    for of_pod, own, stopped in product(POLICIES, POLICIES, STOPS):
        one = a_container(restart_policy=own)
        parts = {"init_containers": (one,)} if kind == "init" else {}
        pod = a_pod(a_container("m") if parts else one, policy=of_pod, **parts)
        current = None if kind == "none yet" else attempt("exited", code=code)
        exited_with = 0 if current is None else code
        policy = own or of_pod or "Always"
        if kind == "init" and own != "Always" and policy == "Always":
            policy = "OnFailure"
        expected = policy == "Always" or (policy == "OnFailure" and exited_with != 0)
        if stopped:
            expected = policy != "Never" or stopped in (CHANGED, RESIZED)
        memory = ContainerMemory(current, stop_reason=stopped)
        assert restarts(pod, one, memory) == expected, (of_pod, own, stopped)
        for state in ("running", "created", "exited"):
            held = replace(memory, current=attempt(state, code=code))
            wanted = {"running": False, "created": True}.get(state, restarts(pod, one, held))
            assert is_wanted(pod, one, held) == wanted


@pytest.mark.parametrize("code", [0, 1, 42])
@pytest.mark.parametrize("policy", ["Always", "Never"])
def test_kubelet_13_the_rules_of_a_container_come_first(code, policy):
    def rule(operator, values, action="Restart"):
        codes = ContainerRestartRuleOnExitCodes(operator=operator, values=values)
        return ContainerRestartRule(action=action, exit_codes=codes)

    held = ContainerMemory(attempt("exited", code=code))
    plain = policy == "Always"
    for rules, expected in (
        ((rule("In", (42, 43)),), True if code == 42 else plain),
        ((rule("NotIn", (42,)),), True if code != 42 else plain),
        ((rule("In", (42,), "Other"),), False if code == 42 else plain),
        ((rule("In", (1,), "Other"), rule("NotIn", (0,))), {0: plain, 1: False}.get(code, True)),
        ((ContainerRestartRule(action="Restart"),), plain),
    ):
        one = a_container(restart_policy_rules=rules)
        assert restarts(a_pod(one, policy=policy), one, held) == expected, rules


# --- init containers ------------------------------------------------------------------------------

INITS = ["none", "created", "runs", "0", "1", "old"]


def held_in(name, what) -> ContainerMemory:
    if what == "none":
        return ContainerMemory()
    if what == "old":
        return ContainerMemory(attempt("exited", name, sandbox="before"))
    if what in ("0", "1"):
        return ContainerMemory(attempt("exited", name, int(what)))
    return ContainerMemory(attempt({"runs": "running"}.get(what, what), name))


def test_kubelet_12_init_containers_start_one_after_the_other():
    """A sidecar delays the next until it has started, any other until it has exited with code 0.
    What is in another sandbox, or in a dead one, has not run."""
    for rng in cases(1000):
        inits = [(rng.choice(INITS), rng.random() < 0.5) for _ in range(rng.randint(1, 3))]
        main = rng.choice(["none", "none", "old", "created", "runs", "1"])
        policy, is_alive = rng.choice(["Always", "Never"]), rng.random() < 0.8
        names = [f"i{at}" for at in range(len(inits))]
        first = [
            a_container(name, restart_policy="Always" if is_sidecar else None)
            for name, (_, is_sidecar) in zip(names, inits, strict=True)
        ]
        pod = a_pod(a_container(), init_containers=tuple(first), policy=policy)
        held = {name: held_in(name, what) for name, (what, _) in zip(names, inits, strict=True)}
        draft = a_draft(
            pod, containers={**held, "c": held_in("c", main)}, sandbox=ALIVE if is_alive else DEAD
        )
        complete = is_alive and main not in ("none", "old")
        starts, regular, failed = [], True, False
        for one, (what, is_sidecar) in zip(first, inits, strict=True):
            here = what if is_alive and what != "old" else "none"
            if is_sidecar:
                if here != "runs":
                    starts.append(one)
                # whether it has started is asked of the newest attempt, wherever it is
                if not complete and what != "runs":
                    regular = False
                    break
            elif not complete and here != "0":
                if here in ("none", "created") or (here == "1" and policy == "Always"):
                    starts.append(one)
                regular, failed = False, here == "1" and policy == "Never"
                break
        expected = ([], False, True) if failed else (starts, regular, False)
        assert init_starts(draft, pod) == expected


def test_kubelet_100_ephemeral_containers_start_once():
    debugger = EphemeralContainer(name="e", image="e:1")
    pod = a_pod(ephemeral_containers=(debugger,))
    for what, is_started in (
        ("none", True),
        ("created", True),
        ("runs", False),
        ("0", False),
        ("1", False),
    ):
        for sandbox in (ALIVE, None):
            draft = a_draft(pod, e=held_in("e", what), sandbox=sandbox)
            found = [one.name for one in ephemeral_starts(draft, pod)]
            expected = is_started and (what == "none" or sandbox is not None)
            assert found == (["e"] if expected else [])


# --- the sandbox ----------------------------------------------------------------------------------


def test_kubelet_10_a_pod_gets_its_sandbox_first():
    pod = a_pod()
    draft = a_draft(pod, sandbox=None, sandbox_attempt=3)
    assert not bring_up(draft, pod)
    assert draft.operations == [RunPodSandbox(compute_sandbox_config(FACTS, pod, 3, draft.note))]
    assert (draft.memory.sandbox_operation, draft.wake_at) == ("run", None)
    waits = a_draft(pod, sandbox=None, sandbox_operation="run")
    assert not bring_up(waits, pod) and not waits.operations
    for at, is_tried in ((NOW, True), (NOW + 1, False)):
        draft = a_draft(pod, sandbox=None, sandbox_retry_at=at)
        assert not bring_up(draft, pod)
        assert (len(draft.operations), draft.wake_at) == ((1, None) if is_tried else (0, at))
    assert bring_up(a_draft(pod), pod)


def test_kubelet_50_a_sandbox_that_cannot_be_started_is_tried_again_later():
    pod = a_pod(hostname="h" * 60, subdomain="d", set_hostname_as_fqdn=True)
    draft = a_draft(pod, sandbox=None)
    assert not bring_up(draft, pod) and not draft.operations
    ((reason, message, kind, _),) = notes(draft)
    assert (reason, kind) == ("FailedCreatePodSandBox", "Warning")
    assert message.startswith("Failed to create pod sandbox: Failed to construct FQDN")
    assert draft.memory.sandbox_retry_at == draft.wake_at == NOW + RETRY
    assert draft.memory.sandbox_operation == ""


@pytest.mark.parametrize(("at", "is_removed"), [(NOW, True), (NOW - 1, True), (NOW + 1, False)])
def test_kubelet_2_a_dead_sandbox_is_removed_before_containers_are_created(at, is_removed):
    old = [replace(DEAD, id="old"), replace(DEAD, id="older")]
    draft = a_draft(a_pod(), dead_sandboxes=tuple(old), end_retry_at=at)
    assert bring_up(draft, draft.pod) == (not is_removed)
    assert draft.operations == ([RemovePodSandbox("u", "old")] if is_removed else [])
    assert draft.memory.sandbox_operation == ("remove" if is_removed else "")


@pytest.mark.parametrize("sandbox", [ALIVE, DEAD, None])
@pytest.mark.parametrize("operation", ["", "run", "stop", "remove"])
def test_kubelet_10_a_dead_sandbox_is_stopped_when_nothing_runs_in_it(sandbox, operation):
    pod = a_pod(termination_grace_period_seconds=9)
    for what in ("none", "runs", "1"):
        draft = a_draft(pod, sandbox=sandbox, sandbox_operation=operation, c=held_in("c", what))
        found = take_down_dead_sandbox(draft, pod)
        stray = what == "runs" and sandbox is not ALIVE
        if operation:
            assert found == (operation != "stop") and not draft.operations
        elif stray:
            assert draft.operations == [StopContainer("u", "c-0", 9)] and not found
            assert draft.memory.container("c").stop_reason == SANDBOX
        elif sandbox is DEAD:
            assert draft.operations == [StopPodSandbox("u", "s")] and not found
            assert draft.memory.sandbox_operation == "stop"
        else:
            assert found and not draft.operations and draft.memory.sandbox_operation == ""


def test_kubelet_10_strays_of_every_kind_are_stopped_and_a_failed_stop_waits():
    pod = a_pod(
        init_containers=(a_container("i"),), ephemeral_containers=(EphemeralContainer(name="e"),)
    )
    held = {
        name: ContainerMemory(attempt("running", name, sandbox="x")) for name in ("i", "c", "e")
    }
    held["c"] = replace(held["c"], stop_reason=LIVENESS)
    draft = a_draft(pod, containers=held)
    assert not take_down_dead_sandbox(draft, pod)
    assert [one.container_id for one in draft.operations] == ["i-0", "c-0", "e-0"]
    assert draft.memory.container("c").stop_reason == LIVENESS, "why it is stopped is kept"
    assert draft.memory.container("i").stop_reason == SANDBOX
    later = a_draft(a_pod(), sandbox=DEAD, end_retry_at=NOW + 5)
    assert not take_down_dead_sandbox(later, later.pod)
    assert (later.operations, later.wake_at, later.memory.sandbox_operation) == ([], NOW + 5, "")
    exact = a_draft(a_pod(), sandbox=DEAD, end_retry_at=NOW)
    assert not take_down_dead_sandbox(exact, exact.pod) and len(exact.operations) == 1


# --- one container --------------------------------------------------------------------------------


def advanced(memory, ready=True, one=None, **parts):
    one = one or a_container()
    pod = a_pod(one)
    draft = a_draft(pod, c=memory, **parts)
    advance(draft, pod, one, ready)
    return draft, draft.memory.container("c")


READY_TO_CREATE = ContainerMemory(image="c:1", image_id="sha", image_user="")


def test_kubelet_14_pull_create_and_start_follow_each_other():
    draft, after = advanced(ContainerMemory())
    assert draft.operations == [PullImage("u", "c:1", "IfNotPresent", ())]
    assert after == ContainerMemory(operation="pull", image="c:1")
    draft, after = advanced(READY_TO_CREATE)
    pod, sandbox = draft.pod, ALIVE
    config = compute_container_config(draft, pod, a_container(), 0, sandbox)
    assert draft.operations == [CreateContainer("s", config)]
    assert after == replace(READY_TO_CREATE, operation="create", applied=a_container().resources)
    made = replace(READY_TO_CREATE, current=attempt("created"))
    draft, after = advanced(made)
    assert draft.operations == [StartContainer("u", "c-0")]
    assert after == replace(made, operation="start")
    for waits in (READY_TO_CREATE, made):
        draft, after = advanced(waits, ready=False)
        assert (draft.operations, after) == ([], waits)
        busy = replace(waits, operation="pull")
        draft, after = advanced(busy)
        assert (draft.operations, after) == ([], busy)
        for operation in ("create", "start", "postStart", "stop", "pull"):
            other = ContainerMemory(operation=operation)
            draft, after = advanced(waits, d=other)
            is_held = operation in ("create", "start", "postStart")
            assert is_held_up(draft) == (is_held or after.operation in ("create", "start"))
            assert (draft.operations == []) == is_held
    # the image is pulled also before the sandbox is there
    draft, after = advanced(ContainerMemory(), ready=False)
    assert len(draft.operations) == 1 and after.operation == "pull"
    # an attempt that was created in an older sandbox is not started
    old = replace(READY_TO_CREATE, current=attempt("created", sandbox="x", number=4))
    draft, after = advanced(old)
    assert isinstance(draft.operations[0], CreateContainer)
    assert draft.operations[0].config.attempt == next_attempt(old) == 5


@pytest.mark.parametrize(("at", "is_created"), [(NOW, True), (NOW + 1, False)])
def test_kubelet_22_a_failed_creation_is_tried_again_later(at, is_created):
    draft, _ = advanced(replace(READY_TO_CREATE, retry_at=at))
    assert (len(draft.operations), draft.wake_at) == ((1, None) if is_created else (0, at))
    one = a_container(volume_mounts=(VolumeMount(name="z", mount_path="/z"),))
    for message, told in (("", True), ('volume "z" of container "c" is not there', False)):
        draft, after = advanced(replace(READY_TO_CREATE, message=message), one=one)
        words = 'volume "z" of container "c" is not there'
        note = ("Failed", f"Error: {words}", "Warning", "spec.containers{c}")
        assert notes(draft) == ([note] if told else []) and not draft.operations
        assert after == replace(
            READY_TO_CREATE,
            reason="CreateContainerConfigError",
            message=words,
            retry_at=NOW + RETRY,
        )
        assert draft.wake_at == NOW + RETRY


HOOKED = Lifecycle(post_start=LifecycleHandler(exec=ExecAction(command=("x",))))


@pytest.mark.parametrize("stopped", ["", LIVENESS, CHANGED, RESIZED, SANDBOX])
def test_kubelet_20_a_restart_waits_for_its_back_off_unless_the_kubelet_wanted_it(stopped):
    backoff = Backoff(40 * SECOND, 800 * SECOND)
    over = ContainerMemory(
        attempt("exited", code=1, number=2, ended=970),
        image="c:1",
        crash_backoff=backoff,
        stop_reason=stopped,
    )
    is_free = stopped in (CHANGED, RESIZED, SANDBOX)
    draft, after = advanced(over)
    if is_free:
        assert isinstance(draft.operations[0], PullImage)
    else:
        assert draft.operations == [] and draft.wake_at == 1010 * SECOND
        where = "c pod=p_default(u)"
        assert after == replace(
            over,
            reason="CrashLoopBackOff",
            message=f"back-off 40s restarting failed container={where}",
        )
        words = "Back-off restarting failed container c in pod p_default(u)"
        assert notes(draft) == [("BackOff", words, "Warning", "spec.containers{c}")]
        again, same = advanced(after)
        assert (again.operations, notes(again), same) == ([], [], after)
        assert again.wake_at == 1010 * SECOND
    draft, after = advanced(over, now=1010 * SECOND)
    assert isinstance(draft.operations[0], PullImage)
    # with the image there, the attempt is created, and the next one waits longer
    pulled = replace(over, image_id="sha", resize_error="e")
    draft, after = advanced(pulled, one=a_container(lifecycle=HOOKED))
    assert draft.operations[0].config.attempt == 3
    longer = backoff if is_free else Backoff(80 * SECOND, NOW)
    assert after == replace(
        pulled,
        operation="create",
        applied=a_container().resources,
        crash_backoff=longer,
        stop_reason="",
        post_start_pending=True,
        resize_error="",
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (10, "10s"), (59, "59s"), (60, "1m0s"), (160, "2m40s"), (300, "5m0s")],
)
def test_kubelet_20_a_duration_is_written_as_in_go(seconds, text):
    assert duration_text(seconds) == text


def test_kubelet_20_kubelet_21_another_image_begins_anew():
    old = ContainerMemory(
        attempt("exited", code=1, ended=990),
        image="old:1",
        image_id="sha-old",
        image_user="7",
        reason="ErrImagePull",
        message="m",
        pull_backoff=Backoff(300 * SECOND, NOW),
        crash_backoff=Backoff(300 * SECOND, NOW),
    )
    draft, after = advanced(old)
    assert draft.operations == [PullImage("u", "c:1", "IfNotPresent", ())]
    assert after == ContainerMemory(old.current, operation="pull", image="c:1")
    assert list(draft.memory.containers) == ["c"]


# --- images ---------------------------------------------------------------------------------------


def pulled(memory, one=None, **parts):
    one = one or a_container()
    draft = a_draft(a_pod(one), c=memory, **parts)
    pull(draft, one, memory)
    return draft, draft.memory.container("c")


@pytest.mark.parametrize(
    ("image", "is_right"),
    [
        ("busybox", True),
        ("busybox:1.36", True),
        ("registry.example.com:5000/team/app:v1", True),
        ("a/b_c/d__e/f--g:X.y-z", True),
        ("[fd00::1]:5000/a", True),
        (f"a@sha256:{'0' * 64}", True),
        (f"a:1@sha256:{'f' * 64}", True),
        (f"a@sha256:{'0' * 31}", False),
        ("", False),
        ("A", False),
        ("a:", False),
        ("a b", False),
        ("a/", False),
        ("/a", False),
        ("a:-x", False),
        ("a___b", False),
        ("-x.com/a", False),
        ("a@sha256:x", False),
        ("a:" + "x" * 128, True),
        ("a:" + "x" * 129, False),
        ("a\n", False),
        ("Host.io/a", True),
    ],
)
def test_kubelet_22_an_image_that_is_no_reference_is_not_pulled(image, is_right):
    draft, after = pulled(ContainerMemory(), replace(a_container(), image=image))
    if is_right:
        assert draft.operations == [PullImage("u", image, "IfNotPresent", ())]
        return
    words = (
        f'Failed to apply default image tag "{image}": couldn\'t parse image name "{image}": '
        "invalid reference format"
    )
    assert after == ContainerMemory(reason="InvalidImageName", message=words)
    place = "spec.containers{c}"
    assert notes(draft) == [
        ("InspectFailed", words, "Warning", place),
        ("Failed", "Error: InvalidImageName", "Warning", place),
    ]
    again, same = pulled(after, replace(a_container(), image=image))
    assert (notes(again), again.operations, same) == ([], [], after), "it is said once"


def test_kubelet_21_pulls_wait_for_their_back_off_and_show_the_error_first():
    failed = ContainerMemory(
        image="c:1",
        reason="ErrImagePull",
        message="no route",
        pull_backoff=Backoff(20 * SECOND, NOW),
    )
    for now, shown in ((NOW, True), (NOW + 2 * SECOND - 1, True), (NOW + 2 * SECOND, False)):
        draft, after = pulled(failed, now=now)
        assert draft.operations == []
        if shown:
            assert (notes(draft), after, draft.wake_at) == ([], failed, NOW + 2 * SECOND)
            continue
        words = 'Back-off pulling image "c:1"'
        assert after == replace(
            failed, reason="ImagePullBackOff", message=f"{words}: ErrImagePull: no route"
        )
        place = "spec.containers{c}"
        assert notes(draft) == [
            ("BackOff", words, "Normal", place),
            ("Failed", "Error: ImagePullBackOff", "Warning", place),
        ]
        assert draft.wake_at == NOW + 20 * SECOND
        again, same = pulled(after, now=now)
        assert (notes(again), same, again.wake_at) == ([], after, NOW + 20 * SECOND)
    draft, after = pulled(failed, now=NOW + 20 * SECOND)
    assert len(draft.operations) == 1 and after == replace(failed, operation="pull")
    for reason in ("RegistryUnavailable", "SignatureValidationFailed"):
        draft, after = pulled(replace(failed, reason=reason), now=NOW + 2 * SECOND)
        assert after.reason == "ImagePullBackOff"
    for policy in ("Always", "Never", None):
        draft, _ = pulled(ContainerMemory(), replace(a_container(), image_pull_policy=policy))
        assert draft.operations[0].policy == (policy or "IfNotPresent")


# --- a running container --------------------------------------------------------------------------


def checked(memory, one=None, **parts):
    one = one or a_container()
    pod = a_pod(one, termination_grace_period_seconds=7)
    draft = a_draft(pod, c=memory, **parts)
    check_running(draft, pod, one)
    return draft, draft.memory.container("c")


def failing(kind, id="c-0"):
    return {kind: ProbeMemory(id, False)}


@pytest.mark.parametrize(
    ("memory", "reason", "why"),
    [
        ({"current": attempt(spec_hash="other")}, CHANGED, "definition changed"),
        ({"probes": failing("liveness")}, LIVENESS, "failed liveness probe"),
        ({"probes": failing("startup")}, STARTUP, "failed startup probe"),
        (
            {"probes": {**failing("liveness"), **failing("startup")}},
            STARTUP,
            "failed startup probe",
        ),
        (
            {"current": attempt(spec_hash="other"), "probes": failing("liveness")},
            CHANGED,
            "definition changed",
        ),
    ],
)
def test_kubelet_15_a_container_that_changed_or_fails_its_probe_is_restarted(memory, reason, why):
    held = ContainerMemory(**{"current": attempt(), **memory})
    draft, after = checked(held)
    assert draft.operations == [StopContainer("u", "c-0", 7)]
    assert after == replace(
        held, stop_reason=reason, operation="stop", grace_until=NOW + 7 * SECOND
    )
    words = f"Container c {why}, will be restarted"
    assert notes(draft) == [("Killing", words, "Normal", "spec.containers{c}")]
    # one that is stopped already has its reason
    known = replace(held, stop_reason=SANDBOX)
    draft, after = checked(known)
    assert after.stop_reason == SANDBOX and notes(draft) == []
    assert draft.operations == [StopContainer("u", "c-0", 7)]
    for state in ("exited", "created"):
        over = replace(held, current=replace(held.current, state=state))
        draft, after = checked(over)
        assert (draft.operations, after, notes(draft)) == ([], over, [])


def test_kubelet_15_nothing_is_stopped_without_a_reason():
    for current in (attempt(), attempt(spec_hash=spec_hash(a_container()))):
        held = ContainerMemory(current, probes={"liveness": ProbeMemory("c-0", True)})
        draft, after = checked(held)
        assert (draft.operations, after, notes(draft)) == ([], held, [])
    draft, after = checked(ContainerMemory())
    assert (draft.operations, after) == ([], ContainerMemory())


def test_kubelet_17_post_start_runs_before_anything_else():
    one = a_container(lifecycle=HOOKED)
    held = ContainerMemory(attempt(spec_hash="other"), post_start_pending=True)
    draft, after = checked(held, one)
    (hook,) = draft.operations
    assert isinstance(hook, RunHook) and (hook.container_id, hook.timeout_seconds) == ("c-0", 3600)
    assert after == replace(held, operation="postStart", post_start_pending=False)
    busy = replace(held, operation="stop")
    draft, after = checked(busy, one)
    assert after.stop_reason == CHANGED, "with an operation under way the hook waits"
    action = HTTPGetAction(path="/up", port="web")
    by_http = a_container(
        ports=(ContainerPort(name="web", container_port=81),),
        lifecycle=Lifecycle(post_start=LifecycleHandler(http_get=action)),
    )
    draft, _ = checked(held, by_http)
    assert (draft.operations[0].action, draft.operations[0].port) == ("http", 81)


def test_kubelet_20_the_image_is_forgotten_also_where_nothing_is_pulled_yet():
    old = ContainerMemory(attempt("created"), image="old:1", image_id="x", reason="r", message="m")
    draft, after = advanced(old, ready=False)
    assert after == ContainerMemory(old.current) and list(draft.memory.containers) == ["c"]
    bad = replace(a_container(), image="Not An Image")
    draft, after = advanced(ContainerMemory(image="old:1", image_id="x"), one=bad)
    assert after == ContainerMemory(reason="InvalidImageName", message=after.message)


def test_kubelet_130_a_pull_has_the_credentials_for_its_image():
    login = {"auth": b64encode(b"u:p").decode()}
    file = json.dumps({"auths": {"r.example": login}}).encode()
    secret = Secret(
        type="kubernetes.io/dockerconfigjson",
        data={".dockerconfigjson": b64encode(file).decode()},
    )
    held = Held(secret, read=True, good_until=NEVER)
    one = replace(a_container(), image="r.example/c:1")
    pod = a_pod(one, image_pull_secrets=(LocalObjectReference(name="s"),))
    draft = a_draft(pod, c=ContainerMemory())
    draft.library = Library(Map({secret_key("default", "s"): held}), NOW)
    pull(draft, one, ContainerMemory())
    (found,) = draft.operations
    assert found == PullImage("u", "r.example/c:1", "IfNotPresent", (RegistryCredential("u", "p"),))
    waits = a_draft(pod, c=ContainerMemory())
    pull(waits, one, ContainerMemory())
    assert (waits.operations, waits.memory.container("c")) == ([], ContainerMemory())


def test_resize_4_a_container_with_other_resources_than_allocated_is_updated():
    wanted = ResourceRequirements(limits={"cpu": "2"})
    one = a_container(resources=wanted)
    held = ContainerMemory(attempt(), applied=ResourceRequirements(limits={"cpu": "1"}))
    draft, after = checked(held, one)
    assert draft.operations == [UpdateContainerResources("u", "c-0", Resources(2000))]
    assert after == replace(held, operation="update", updating=wanted)
    # the limits of the pod are those of a container without any
    shared = a_pod(a_container(), resources=ResourceRequirements(limits={"memory": "5"}))
    draft = a_draft(shared, c=replace(held, applied=ResourceRequirements(limits={"cpu": "1"})))
    check_running(draft, shared, shared.spec.containers[0])
    assert draft.operations == [UpdateContainerResources("u", "c-0", Resources(0, 5))]


def test_probe_8_a_probe_may_have_a_grace_period_of_its_own():
    for kind in ("liveness", "startup"):
        own = Probe(termination_grace_period_seconds=3)
        one = a_container(**{f"{kind}_probe": own})
        draft, _ = checked(ContainerMemory(attempt(), probes=failing(kind)), one)
        assert draft.operations == [StopContainer("u", "c-0", 3)]


def test_kubelet_18_older_attempts_are_removed_one_by_one():
    held = ContainerMemory(attempt(number=3), stale=("c-0", "c-1"))
    for memory, removed, wake in (
        (held, True, None),
        (replace(held, removing=True), False, None),
        (replace(held, stale=()), False, None),
        (replace(held, retry_at=NOW + 1), False, NOW + 1),
        (replace(held, retry_at=NOW), True, None),
    ):
        draft = a_draft(a_pod(), c=memory)
        remove_stale(draft, "c")
        assert draft.operations == ([RemoveContainer("u", "c-0")] if removed else [])
        assert draft.wake_at == wake
        assert draft.memory.container("c").removing == (removed or memory.removing)


# --- the pod as a whole ---------------------------------------------------------------------------


def kinds(draft):
    return [type(one).__name__ for one in draft.operations]


def test_pod_1_a_pod_is_finished_when_nothing_runs_and_nothing_will():
    done = ContainerMemory(attempt("exited"))
    pod = a_pod(policy="Never")
    for memory, parts, stage in (
        (done, {}, "finished"),
        (ContainerMemory(attempt()), {}, "running"),
        (ContainerMemory(), {}, "running"),
        (done, {"volume_writes_running": 1}, "running"),
        (done, {"sandbox": None}, "finished"),
        (done, {"sandbox": DEAD}, "running"),
        (replace(done, operation="create"), {}, "running"),
        (replace(done, operation="pull"), {}, "finished"),
    ):
        assert plan_containers(a_draft(pod, c=memory, **parts), pod) == stage
    init = a_pod(policy="Never", init_containers=(a_container("i"),))
    held = {"i": ContainerMemory(attempt("exited", "i", 1))}
    assert plan_containers(a_draft(init, containers=held), init) == "finished"
    draft = a_draft(init, containers=held)
    sync_pod(draft)
    assert draft.memory.ending == "finished" and kinds(draft) == ["StopPodSandbox"]


def test_kubelet_12_what_is_started_and_checked_in_a_pod():
    """Init containers first; then the regular ones and, before them, the sidecars that have ended;
    ephemeral containers in any case."""
    sidecar, init = a_container("s", restart_policy="Always"), a_container("i")
    debugger = EphemeralContainer(name="e", image="e:1")
    pod = a_pod(
        a_container("c"),
        a_container("d"),
        init_containers=(sidecar, init),
        ephemeral_containers=(debugger,),
    )

    def pulls(**held):
        draft = a_draft(pod, containers=held)
        assert plan_containers(draft, pod) == "running"
        return [one.image for one in draft.operations if isinstance(one, PullImage)]

    runs, ended = held_in("s", "runs"), held_in("i", "0")
    assert pulls() == ["e:1", "s:1"]
    assert pulls(s=runs) == ["e:1", "i:1"]
    assert pulls(s=runs, i=held_in("i", "runs")) == ["e:1"]
    assert pulls(s=runs, i=ended) == ["e:1", "c:1", "d:1"]
    assert pulls(s=runs, i=ended, c=held_in("c", "runs"), e=held_in("e", "0")) == ["d:1"]
    both = {"c": held_in("c", "runs"), "d": held_in("d", "runs"), "e": held_in("e", "0")}
    assert pulls(i=ended, s=held_in("s", "1"), **both) == ["s:1"]
    # a sidecar and a regular container are checked, an init container and a debugger are not
    other = {
        name: ContainerMemory(attempt("running", name, spec_hash="other"))
        for name in ("s", "i", "c", "e")
    }
    draft = a_draft(pod, containers={**other, "d": held_in("d", "runs")})
    plan_containers(draft, pod)
    stopped = [one.container_id for one in draft.operations if isinstance(one, StopContainer)]
    assert stopped == ["s-0", "c-0"]


def test_kubelet_18_every_container_loses_its_older_attempts():
    held = {
        name: ContainerMemory(attempt("running", name), stale=(f"{name}-old",))
        for name in ("d", "c")
    }
    pod = a_pod(a_container("c"), a_container("d"))
    draft = a_draft(pod, containers={**held, "x": ContainerMemory(stale=("x-old",))})
    plan_containers(draft, pod)
    assert draft.operations == [RemoveContainer("u", id) for id in ("c-old", "d-old", "x-old")]
    # with nothing to start and nothing that runs no sandbox is made
    draft = a_draft(a_pod(), sandbox=None, c=ContainerMemory(operation="create"))
    plan_containers(draft, draft.pod)
    assert kinds(draft) == ["RunPodSandbox"]


def test_kubelet_14_a_pod_creates_its_containers_one_by_one():
    pod = a_pod(a_container("c"), a_container("d"))
    held = {name: replace(READY_TO_CREATE, image=f"{name}:1") for name in "cd"}
    draft = a_draft(pod, containers=held)
    plan_containers(draft, pod)
    assert [one.config.name for one in draft.operations] == ["c"]
    over = ContainerMemory(
        attempt("exited", code=1, ended=999),
        image="c:1",
        crash_backoff=Backoff(10 * SECOND, NOW),
    )
    draft = a_draft(pod, containers={"c": over, "d": held_in("d", "runs")})
    plan_containers(draft, pod)
    assert draft.memory.container("c").message.endswith("container=c pod=p_default(u)")


def test_kubelet_2_kubelet_10_a_sandbox_is_made_only_for_a_container_and_an_old_one_removed():
    done = ContainerMemory(attempt("exited"))
    pod = a_pod(policy="Never")
    draft = a_draft(pod, c=done, sandbox=None, volume_writes_running=1)
    assert plan_containers(draft, pod) == "running" and draft.operations == []
    old = replace(DEAD, id="old")
    draft = a_draft(a_pod(), c=ContainerMemory(attempt()), dead_sandboxes=(old,))
    plan_containers(draft, draft.pod)
    assert draft.operations == [RemovePodSandbox("u", "old")], "also while all of it runs"


def test_pod_2_a_pod_that_ends_is_stopped_and_still_probed():
    ready = Probe(exec=ExecAction(command=("x",)))
    pod = a_pod(a_container(readiness_probe=ready), metadata=GOING)
    draft = a_draft(pod, c=ContainerMemory(attempt()))
    sync_pod(draft)
    assert draft.memory.ending == "deleted"
    assert kinds(draft) == ["StopContainer", "Probe"]


def test_kubelet_1_nothing_is_decided_while_the_pod_is_listed():
    draft = a_draft(a_pod(), listing=True)
    sync_pod(draft)
    assert (draft.operations, draft.wake_at) == ([], None)
    sync_pod(free := a_draft(a_pod()))
    assert kinds(free) == ["PullImage"]


# --- the end --------------------------------------------------------------------------------------

GOING = {"deletion_timestamp": "2026-01-01T00:00:00Z", "deletion_grace_period_seconds": 5}


def test_pod_2_pod_5_why_a_pod_ends():
    assert why_ending(a_draft(None, known=a_pod())) == "gone"
    assert why_ending(a_draft(a_pod(metadata=GOING), ending="deadline")) == "deleted"
    for ending in ("deadline", "finished", "gone"):
        assert why_ending(a_draft(a_pod(), ending=ending)) == ending
    for phase in ("Succeeded", "Failed"):
        ended = a_pod(status=PodStatus(phase=phase))
        assert why_ending(a_draft(ended)) == "terminal"
        assert why_ending(a_draft(ended, rejected=("a", "b"))) == "terminal"
    assert why_ending(a_draft(a_pod(), rejected=("a", "b"))) == "rejected"
    assert why_ending(a_draft(a_pod())) == ""
    timed = a_pod(active_deadline_seconds=60)
    for begun, why in ((NOW - 60 * SECOND, "deadline"), (NOW - 60 * SECOND + 1, "")):
        draft = a_draft(timed, started_at=begun)
        assert why_ending(draft) == why
        assert draft.wake_at == (None if why else NOW + 1)


@pytest.mark.parametrize(
    ("metadata", "why", "seconds"),
    [
        ({}, "finished", 9),
        ({}, "deleted", 9),
        (GOING, "deleted", 5),
        (GOING, "gone", 5),
        (GOING, "deadline", 9),
        ({"deletion_grace_period_seconds": 0}, "deleted", 1),
    ],
)
def test_pod_3_the_grace_period(metadata, why, seconds):
    pod = a_pod(metadata=metadata, termination_grace_period_seconds=9)
    assert grace_seconds(a_draft(pod), why) == seconds
    assert grace_seconds(a_draft(None, known=pod), why) == seconds
    assert (
        grace_seconds(Draft(FACTS, None, PodMemory("u", "d", "p"), Library({}, NOW), NOW), why) == 1
    )
    unset = a_pod(termination_grace_period_seconds=None)
    assert grace_seconds(a_draft(unset), "finished") == 30


@pytest.mark.parametrize(
    ("memory", "alive"),
    [
        (ContainerMemory(), False),
        (ContainerMemory(attempt()), True),
        (ContainerMemory(attempt("exited")), False),
        (ContainerMemory(operation="pull"), False),
        (ContainerMemory(operation="create"), True),
        (ContainerMemory(attempt("exited"), operation="stop"), True),
    ],
)
def test_pod_4_a_container_may_run_while_an_operation_may_start_it(memory, alive):
    assert is_alive(a_draft(a_pod(), c=memory), "c") == alive


def test_pod_4_containers_end_before_sidecars_and_the_last_sidecar_first():
    first, last = (a_container(name, restart_policy="Always") for name in ("s", "t"))
    pod = a_pod(a_container("c"), a_container("d"), init_containers=(first, a_container("i"), last))
    held = {name: ContainerMemory(attempt("running", name)) for name in "cdist"}
    held["x"] = ContainerMemory(attempt("running", "x"))
    order = []
    while True:
        draft = a_draft(pod, containers=held)
        if end_containers(draft, pod, 4):
            break
        order.append([one.container_id for one in draft.operations])
        assert {one.grace_period_seconds for one in draft.operations} == {4}
        told = [("Killing", f"Stopping container {id[0]}") for id in order[-1] if id[0] != "x"]
        assert [note[:2] for note in notes(draft)] == told
        for id in order[-1]:
            held[id[0]] = ContainerMemory(attempt("exited", id[0]))
    assert order == [["c-0", "d-0", "i-0", "x-0"], ["t-0"], ["s-0"]]
    # without a pod all of them are strangers
    held = {name: ContainerMemory(attempt("running", name)) for name in "dc"}
    draft = a_draft(None, known=pod, containers=held)
    assert not end_containers(draft, None, 4)
    assert [one.container_id for one in draft.operations] == ["c-0", "d-0"] and not notes(draft)


def ended(why, pod=None, **parts):
    draft = a_draft(pod or a_pod(termination_grace_period_seconds=9), **parts)
    end(draft, why)
    return draft


def test_pod_4_the_sandbox_is_stopped_after_the_last_container():
    draft = ended("finished", c=ContainerMemory(attempt()))
    assert kinds(draft) == ["StopContainer"]
    assert (draft.memory.ending, draft.memory.ending_at, draft.memory.ended) == (
        "finished",
        NOW,
        False,
    )
    draft = ended("finished", c=ContainerMemory(attempt("exited")), ending="finished", ending_at=5)
    assert draft.operations == [StopPodSandbox("u", "s")] and draft.memory.ending_at == 5
    assert (draft.memory.sandbox_operation, draft.memory.ended) == ("stop", False)
    for waits in ({"sandbox_operation": "stop"}, {"volume_writes_running": 1}, {"listing": True}):
        draft = ended("finished", **waits)
        assert not draft.operations and not draft.memory.ended and draft.wake_at is None
    for at, is_tried in ((NOW, True), (NOW + 1, False)):
        draft = ended("finished", end_retry_at=at)
        assert (len(draft.operations), draft.wake_at) == ((1, None) if is_tried else (0, at))
    draft = ended("finished", sandbox=None)
    assert draft.memory.ended and not draft.memory.removed and not draft.operations


@pytest.mark.parametrize("why", ["deleted", "gone", "finished", "deadline", "rejected", "terminal"])
def test_pod_6_a_deleted_pod_is_removed_and_any_other_stays(why):
    draft = ended(why, sandbox=None, dead_sandboxes=(DEAD,), ending=why)
    is_removed = why in ("deleted", "gone")
    assert draft.memory.ended
    assert draft.operations == ([RemovePodSandbox("u", "s")] if is_removed else [])
    again = ended(why, sandbox=None, ended=True, removed=True, dead_sandboxes=(DEAD,), ending=why)
    assert not again.operations


def test_pod_6_sandboxes_and_then_volumes_are_removed():
    old = replace(DEAD, id="old")
    draft = a_draft(a_pod(), dead_sandboxes=(old, DEAD), volumes={"v": "1"})
    remove_all(draft)
    assert draft.operations == [RemovePodSandbox("u", "old")] and not draft.memory.removed
    assert draft.memory.sandbox_operation == "remove"
    draft = a_draft(a_pod(), volumes={"v": "1"})
    remove_all(draft)
    assert draft.operations == [RemovePodSandbox("u", "")] and not draft.memory.removed
    draft = a_draft(a_pod())
    remove_all(draft)
    assert draft.operations == [] and draft.memory.removed
    assert draft.memory.sandbox_operation == ""


def test_pod_8_a_deleted_pod_may_wait_a_moment():
    facts = Facts(KubeletConfig(stop_delay=3 * SECOND), NODE)
    running = ContainerMemory(attempt())
    short = a_pod(termination_grace_period_seconds=1)
    for why, pod, since, waits in (
        ("deleted", a_pod(), NOW, True),
        ("deleted", a_pod(), NOW - 3 * SECOND + 1, True),
        ("deleted", a_pod(), NOW - 3 * SECOND, False),
        ("finished", a_pod(), NOW, False),
        ("deleted", short, NOW, False),
    ):
        draft = ended(why, pod, facts=facts, ending=why, ending_at=since, c=running)
        assert kinds(draft) == ([] if waits else ["StopContainer"])
        assert draft.wake_at == (since + 3 * SECOND if waits else None)


def test_pod_3_the_message_and_the_hook_of_a_stop():
    hook = Lifecycle(pre_stop=LifecycleHandler(sleep=SleepAction(seconds=3)))
    pod = a_pod(a_container(lifecycle=hook), termination_grace_period_seconds=9)
    draft = ended("finished", pod, c=ContainerMemory(attempt()))
    assert kinds(draft) == ["RunHook"]
    assert notes(draft) == [("Killing", "Stopping container c", "Normal", "spec.containers{c}")]
    assert draft.memory.container("c").grace_until == NOW + 9 * SECOND < NEVER
    known = draft.memory.container("c")
    assert known.operation == "preStop" and draft.operations == [
        RunHook("u", "c-0", "sleep", 9, seconds=3)
    ]


def test_pod_3_a_hook_by_http_goes_to_a_port_of_the_container():
    action = HTTPGetAction(path="/bye", port="web")
    one = a_container(
        ports=(ContainerPort(name="web", container_port=8080),),
        lifecycle=Lifecycle(pre_stop=LifecycleHandler(http_get=action)),
    )
    draft = ended("finished", a_pod(one), c=ContainerMemory(attempt()))
    (hook,) = draft.operations
    assert (hook.action, hook.port, hook.path, hook.timeout_seconds) == ("http", 8080, "/bye", 30)


def test_pod_3_a_part_of_a_second_counts_as_a_second_and_a_failed_stop_waits():
    one = a_container()
    for left, seconds in ((1_500_000, 2), (2_000_000, 2), (2_000_001, 3), (-5, 1)):
        held = ContainerMemory(attempt(), grace_until=NOW + left)
        draft = a_draft(a_pod(one), c=held)
        stop(draft, one, 30)
        (found,) = draft.operations
        assert found == StopContainer("u", "c-0", seconds)
        assert isinstance(found.grace_period_seconds, int)
    draft = a_draft(a_pod(one), c=ContainerMemory(attempt(), retry_at=NOW + 7))
    stop(draft, one, 30)
    assert (draft.operations, draft.wake_at) == ([], NOW + 7)


def test_pod_4_a_pod_that_the_api_server_does_not_have_ends_in_the_same_order():
    """Its containers are those of the pod as it was last seen, and its grace period that of its
    deletion."""
    pod = a_pod(
        a_container("c"),
        metadata=GOING,
        init_containers=(a_container("s", restart_policy="Always"),),
    )
    held = {name: ContainerMemory(attempt("running", name)) for name in "cs"}
    for shown, why in ((None, "gone"), (pod, "deleted")):
        draft = a_draft(shown, known=pod, containers=held, ending=why)
        end(draft, why)
        assert draft.operations == [StopContainer("u", "c-0", 5)]


def test_kubelet_11_volumes_are_written_before_containers_are_created():
    pod = a_pod(
        a_container(volume_mounts=(VolumeMount(name="v", mount_path="/v"),)),
        volumes=(Volume(name="v", empty_dir=EmptyDirVolumeSource()),),
    )
    draft = a_draft(pod)
    assert not bring_up(draft, pod)
    (written,) = draft.operations
    assert isinstance(written, WriteVolume) and written.volume == "v"


def test_kubelet_96_a_sandbox_says_what_it_leaves_out_of_resolv_conf():
    many = PodDNSConfig(nameservers=tuple(f"1.1.1.{n}" for n in range(4)))
    draft = a_draft(a_pod(dns_policy="None", dns_config=many), sandbox=None)
    bring_up(draft, draft.pod)
    assert kinds(draft) == ["RunPodSandbox"] and [one[0] for one in notes(draft)] == [
        "DNSConfigForming"
    ]
