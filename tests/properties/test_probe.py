"""Probes: PROBE-1 to PROBE-8 (spec/kubelet.md)."""

from hypothesis import given, settings
from hypothesis import strategies as st
from kubelet_bench import START, Bench, make_pod
from kubelet_chaos import EXEC, container, scripted
from msgspec.structs import replace

from refk8s.adapters.fake import world as fake
from refk8s.core.api.core_v1 import (
    Container,
    ContainerPort,
    ExecAction,
    GRPCAction,
    HTTPGetAction,
    HTTPHeader,
    Probe,
    TCPSocketAction,
)
from refk8s.core.context import SECOND
from refk8s.core.kubelet.probes import compute_probe
from refk8s.core.ports import ContainerStatus, Failed, Later, Probed, StartContainer, StopContainer
from refk8s.core.ports import Probe as Question

KINDS = {kind: ExecAction(command=(kind,)) for kind in ("startup", "liveness", "readiness")}


def probe(kind, **more):
    return Probe(
        exec=KINDS[kind],
        **{
            "period_seconds": 10,
            "failure_threshold": 3,
            "success_threshold": 1,
            "timeout_seconds": 1,
            **more,
        },
    )


def with_probes(answers, spec=None, **probes):
    """A bench whose container has these probes; `answers(kind, seconds)` answers them."""
    bench = Bench().start().settle()

    def script(operation):
        if isinstance(operation, Question):
            return answers(operation.command[0], (bench.now - START) / SECOND)
        return None

    bench.script = script
    given = {f"{kind}_probe": probe(kind, **settings) for kind, settings in probes.items()}
    bench.add(make_pod(containers=(replace(spec or container("c"), **given),)))
    return bench.settle()


def asked(bench, kind):
    return [
        at
        for at, operation in bench.asked
        if isinstance(operation, Question) and operation.command[0] == kind
    ]


def ready_condition(bench):
    return next(c.status for c in bench.pod().status.conditions if c.type == "Ready")


GOOD, BAD, UNKNOWN = Probed(True), Probed(False, "no"), Probed(False, "cannot ask", unknown=True)
seconds = st.integers(1, 20)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["liveness", "readiness"]), st.integers(0, 20), seconds)
def test_probe_1_questions_come_when_they_should(kind, delay, period):
    bench = with_probes(
        lambda kind, at: GOOD, **{kind: {"initial_delay_seconds": delay, "period_seconds": period}}
    )
    bench.run_for(100)
    assert asked(bench, kind) == list(range(delay, 101, period))


@settings(max_examples=40, deadline=None)
@given(seconds, st.integers(0, 30))
def test_probe_2_one_question_at_a_time(period, takes):
    """`takes` is how long an answer takes. The other probe of the container is not held up."""
    bench = Bench().start().settle()
    until = {}

    def script(operation):
        if not isinstance(operation, Question) or operation.command[0] != "liveness":
            return GOOD if isinstance(operation, Question) else None
        end = until.setdefault(id(operation), bench.now + takes * SECOND)
        return Later(end) if bench.now < end else GOOD

    bench.script = script
    slow = {
        "liveness_probe": probe("liveness", period_seconds=period),
        "readiness_probe": probe("readiness", period_seconds=7),
    }
    bench.add(make_pod(containers=(replace(container("c"), **slow),)))

    def look():
        flying = [operation for _, _, operation, _ in bench.runs if isinstance(operation, Question)]
        assert len([question for question in flying if question.command[0] == "liveness"]) <= 1

    bench.check = look
    bench.run_for(100)
    assert asked(bench, "readiness") == list(range(0, 101, 7))
    for before, after in zip(asked(bench, "liveness"), asked(bench, "liveness")[1:], strict=False):
        assert after - before >= max(period, takes)


@given(st.booleans())
def test_probe_3_a_new_attempt_knows_nothing_of_the_last(by_itself):
    bench = with_probes(
        lambda kind, at: GOOD if at < 30 or at > 60 else BAD, readiness={"failure_threshold": 1000}
    )
    bench.run_for(35)
    assert ready_condition(bench) == "True"  # The threshold is far.
    id = bench.world.running()[0].id
    bench.disturb(lambda world, now: fake.crash_container(world, id, 1, now))
    bench.run_for(1)
    assert bench.world.running()
    assert ready_condition(bench) == "False"
    bench.run_for(40)
    assert ready_condition(bench) == "True"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 60), seconds)
def test_probe_4_liveness_and_readiness_wait_for_the_startup_probe(starts_at, period):
    bench = with_probes(
        lambda kind, at: GOOD if kind != "startup" or at >= starts_at else BAD,
        startup={"period_seconds": period, "failure_threshold": 100},
        liveness={},
        readiness={},
    )
    bench.run_for(120)
    succeeded = -(-starts_at // period) * period
    assert asked(bench, "startup") == list(range(0, succeeded + 1, period))
    for kind in ("liveness", "readiness"):
        assert asked(bench, kind)[0] == succeeded
    status = bench.pod().status.container_statuses[0]
    assert status.started and status.ready


def test_probe_4_an_ending_pod_is_asked_for_readiness_only():
    bench = with_probes(
        lambda kind, at: GOOD, spec=scripted("c", stop_seconds="25"), liveness={}, readiness={}
    )
    bench.run_for(1)
    bench.delete()
    bench.run_for(100)
    assert asked(bench, "liveness") == [0]
    assert asked(bench, "readiness") == [0, 10, 20]


def verdicts(answers, failure_threshold, success_threshold):
    """What is known after each answer: the rule said plainly."""
    known, found = None, []
    for index in range(len(answers)):
        for good, threshold in ((True, success_threshold), (False, failure_threshold)):
            tail = answers[max(0, index + 1 - threshold) : index + 1]
            if len(tail) == threshold and all(answer is good for answer in tail):
                known = good
        found.append(known)
    return found


@settings(max_examples=80, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=15), st.integers(1, 4), st.integers(1, 3))
def test_probe_5_a_verdict_takes_enough_equal_answers_in_a_row(answers, failures, successes):
    thresholds = {"failure_threshold": failures, "success_threshold": successes}
    bench = with_probes(
        lambda kind, at: Probed(answers[min(int(at) // 10, len(answers) - 1)]), readiness=thresholds
    )
    found = []
    for _ in answers:
        found.append(bench.pod().status.container_statuses[0].ready)
        bench.run_for(10)
    assert found == [known is True for known in verdicts(answers, failures, successes)]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["liveness", "startup"]), st.integers(1, 4), seconds)
def test_probe_5_a_container_that_is_condemned_is_restarted(kind, failures, period):
    bench = with_probes(
        lambda kind, at: BAD, **{kind: {"failure_threshold": failures, "period_seconds": period}}
    )
    bench.run_for((failures - 1) * period + 1)
    starts = [at for at, _ in bench.did(StartContainer)]
    assert starts == [0, (failures - 1) * period] if failures > 1 or period > 1 else starts[0] == 0
    assert (
        next(at for at, op in bench.asked if isinstance(op, StopContainer))
        == (failures - 1) * period
    )
    assert {"Unhealthy", "Killing"} <= set(bench.reasons())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["good", "bad", "unknown", "failed"]), max_size=20))
def test_probe_6_what_could_not_be_asked_changes_nothing(answers):
    """The verdicts are those of the answers without the questions that could not be put."""
    words = {
        "good": GOOD,
        "bad": BAD,
        "unknown": UNKNOWN,
        "failed": Failed("", "the runtime is away"),
    }
    bench = with_probes(
        lambda kind, at: words[answers[int(at) // 10]] if int(at) // 10 < len(answers) else UNKNOWN,
        readiness={},
    )
    bench.run_for(10 * len(answers) + 5)
    put = [answer == "good" for answer in answers if answer in ("good", "bad")]
    expected = bool(put) and verdicts(put, 3, 1)[-1] is True
    assert bench.pod().status.container_statuses[0].ready is expected


@given(st.booleans(), st.booleans())
def test_probe_7_a_container_is_ready_when_it_has_started_and_says_so(has_startup, has_readiness):
    probes = ({"startup": {}} if has_startup else {}) | (
        {"readiness": {"initial_delay_seconds": 5}} if has_readiness else {}
    )
    bench = with_probes(lambda kind, at: GOOD if kind == "readiness" or at >= 10 else BAD, **probes)
    told = []
    for _ in range(25):
        bench.run_for(1)
        told.append(bench.pod().status.container_statuses[0].ready)
    ready_at = max(10 if has_startup else 0, 5 if has_readiness else 0)
    assert told == [at + 1 >= ready_at for at in range(25)]


@given(st.one_of(st.none(), st.integers(1, 60)), st.sampled_from(["liveness", "startup"]))
def test_probe_8_a_condemned_container_gets_its_probes_grace_period(seconds, kind):
    bench = with_probes(
        lambda kind, at: BAD,
        **{kind: {"failure_threshold": 1, "termination_grace_period_seconds": seconds}},
    )
    first = next(op for _, op in bench.asked if isinstance(op, StopContainer))
    assert first.grace_period_seconds == (30 if seconds is None else seconds)


STATUS = ContainerStatus("id", "sandbox", "uid", "c", 0, "running")
PORTS = Container(name="c", ports=(ContainerPort(container_port=8080, name="web"),))


@given(st.sampled_from(["web", 8080, "8080", "other"]), st.sampled_from([None, "HTTPS"]))
def test_probe_1_a_question_is_put_as_it_was_asked(port, scheme):
    """Ports may be named; a probe that names one that there is not asks nothing."""
    http = HTTPGetAction(
        path="/ok", port=port, scheme=scheme, http_headers=(HTTPHeader(name="X", value="y"),)
    )
    question = compute_probe(PORTS, Probe(http_get=http, timeout_seconds=3), STATUS)
    if port == "other":
        assert question is None
        return
    assert question == Question(
        "uid",
        "id",
        "http",
        3,
        port=8080,
        path="/ok",
        scheme=scheme or "HTTP",
        headers=(("X", "y"),),
    )
    assert compute_probe(PORTS, Probe(tcp_socket=TCPSocketAction(port=port)), STATUS) == Question(
        "uid", "id", "tcp", 1, port=8080
    )
    assert compute_probe(PORTS, Probe(grpc=GRPCAction(port=9, service="s")), STATUS) == Question(
        "uid", "id", "grpc", 1, port=9, path="s"
    )
    assert compute_probe(PORTS, Probe(exec=EXEC), STATUS) == Question(
        "uid", "id", "exec", 1, command=("check",)
    )
