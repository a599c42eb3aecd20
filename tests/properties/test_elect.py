"""Leader election (spec/leader_election.md): one elector by hand, and two in a cluster under random
runs."""

import asyncio

import pytest
from click.testing import CliRunner
from election_world import (
    PERIOD,
    START,
    Hand,
    elector,
    lease,
    new_cluster,
    stored_lease,
)
from hypothesis import given
from hypothesis import strategies as st
from runs import choices, run, settle

from refk8s.cli.processes import scheduler
from refk8s.components import component_process
from refk8s.components.clock import Clock
from refk8s.components.driver import Driver
from refk8s.components.files import CannotRun
from refk8s.core.api.request import Response
from refk8s.core.api.resources import CONFIG_MAPS, LEASES
from refk8s.core.cluster.state import Cluster
from refk8s.core.cluster.step import submit
from refk8s.core.context import MILLISECOND, SECOND, micro_timestamp, parse_timestamp
from refk8s.core.loop.elector import ElectorState
from refk8s.core.loop.lease_lock import BadElection, ElectionConfig
from refk8s.core.machine import Answered, Call, Stopping, Unwatch, Watched
from refk8s.core.properties.laws import leader_election as laws
from refk8s.core.value import evolve

OTHER = "host-b_00000000-0000-4000-8000-000000000000"

times = st.integers(0, 40 * SECOND)


def check(before: Cluster, after: Cluster) -> list[str]:
    """The laws of a step, whatever the action was."""
    changes = after.last_commit.changes if after.last_commit is not None else ()
    wrong = [
        words
        for change in changes
        if change.key.startswith(LEASES.prefix)
        for words in laws.the_holder_is_recorded(change, before, after) or ()
    ]
    for rule in laws.OF_STEPS:
        found = rule.check(before, None, after) or ()
        wrong += [f"{rule.rule}: {words}" for words in found]
    return wrong


# --- one elector by hand --------------------------------------------------------------------------


def test_elect_1_an_absent_lease_is_created_with_the_fields_of_upstream():
    hand = Hand()
    assert hand.asked().request.verb == "get"
    hand.answer(404)
    created = hand.asked().request
    assert (created.verb, created.namespace, created.name) == ("create", "kube-system", "writer")
    spec = created.body.spec
    assert spec.holder_identity == hand.state.identity
    assert hand.state.identity.startswith("host-a_") and len(hand.state.identity) == 7 + 36
    assert spec.lease_duration_seconds == 15 and spec.lease_transitions == 0
    assert spec.acquire_time == spec.renew_time == micro_timestamp(START)
    assert spec.strategy is None and spec.preferred_holder is None


def test_elect_1_another_start_has_another_identity():
    assert Hand(seed=b"a").state.identity != Hand(seed=b"b").state.identity


@given(st.integers(0, 2**31 - 1), st.sampled_from(["", OTHER]))
def test_elect_1_an_acquisition_counts_a_transition_and_a_renewal_does_not(transitions, holder):
    hand = Hand().answer(200, lease(holder, transitions=transitions))
    if holder:
        while not (hand.calls() and hand.asked().request.verb == "update"):
            hand.wake()
            if hand.state.sent is not None and hand.asked().request.verb == "get":
                hand.answer(200, lease(holder, transitions=transitions))
    acquisition = hand.asked().request.body.spec
    assert acquisition.lease_transitions == min(transitions + 1, 2**31 - 1)
    assert acquisition.acquire_time == micro_timestamp(hand.now)
    hand.accept()
    hand.step(at=hand.now + 2 * SECOND)
    renewal = hand.asked().request.body.spec
    assert renewal.lease_transitions == acquisition.lease_transitions
    assert renewal.acquire_time == acquisition.acquire_time
    assert (
        parse_timestamp(renewal.renew_time) == parse_timestamp(acquisition.renew_time) + 2 * SECOND
    )


@given(times, st.integers(1, 60), st.integers(-100 * SECOND, 100 * SECOND))
def test_elect_2_a_candidate_waits_for_the_duration_in_the_lease_from_its_own_observation(
    late, seconds, written
):
    """Whatever time the holder's clock has written."""
    hand = Hand().answer(200, lease(OTHER, START + written, seconds=seconds), after=late % SECOND)
    observed = hand.now
    while hand.now < observed + (seconds + 10) * SECOND:
        hand.wake()
        if hand.state.sent is None:
            continue
        assert hand.asked().request.verb == "get"
        hand.answer(200, lease(OTHER, START + written, seconds=seconds))
        if hand.calls():
            break
    assert hand.asked().request.verb == "update"
    assert hand.asked().request.body.metadata.resource_version == "7"
    assert observed + seconds * SECOND <= hand.now <= observed + (seconds + 5) * SECOND


@given(st.lists(st.integers(0, 14_999), min_size=1, max_size=8))
def test_elect_2_every_change_of_the_spec_begins_the_wait_again(gaps):
    """A change of the metadata alone does not."""
    hand = Hand().answer(200, lease(OTHER))
    changed, renewed, version = hand.now, START, 7
    for gap in gaps:
        limit = changed + gap * MILLISECOND
        while hand.wake_at is not None and hand.wake_at < limit:
            hand.wake()
            if hand.state.sent is not None:
                version += 1
                hand.answer(200, lease(OTHER, renewed, version=version))
                assert not hand.calls(), "it writes a Lease that is held"
        hand.wake()
        renewed += 1
        hand.answer(200, lease(OTHER, renewed))
        changed = hand.now
        assert not hand.calls()


@given(st.binary(min_size=1, max_size=4), st.integers(1, 20))
def test_elect_3_a_candidate_tries_again_after_one_to_two_point_two_periods(seed, attempts):
    hand = Hand(seed=seed).answer(500)
    waits = set()
    for _ in range(attempts):
        before = hand.now
        hand.wake()
        waits.add(hand.now - before)
        assert 2 * SECOND <= hand.now - before < 4_400 * MILLISECOND
        hand.answer(500)
    assert attempts == 1 or len(waits) > 1


def test_elect_3_a_leader_renews_every_two_seconds_with_what_it_wrote_last():
    hand = Hand().lead()
    for version in range(9, 14):
        begin = hand.now
        while not (hand.calls() and any(c.request.resource == LEASES for c in hand.calls())):
            hand.wake()
        assert hand.now == begin + 2 * SECOND
        assert hand.asked().request.verb == "update"
        assert hand.asked().request.body.metadata.resource_version == str(version - 1)
        hand.accept(version=version)


def test_elect_3_a_request_without_a_response_is_given_up_after_half_the_deadline():
    hand = Hand()
    first = hand.asked().id
    hand.wake()
    assert hand.now == START + 5 * SECOND and hand.state.sent is None
    hand.step(Answered(first, Response(404, None)))
    assert not hand.calls(), "a response that comes too late is ignored"


@pytest.mark.parametrize("code", [409, 500, 404])
def test_elect_3_a_leader_whose_renewal_is_refused_reads_the_lease_at_once(code):
    hand = Hand().lead()
    hand.step(at=hand.now + 2 * SECOND)
    hand.answer(code)
    assert hand.asked().request.verb == "get" and hand.is_leading


def test_elect_3_a_lost_acquisition_is_found_by_reading_and_written_again():
    hand = Hand().answer(404)
    sent = hand.asked().request.body
    hand.lose()
    assert not hand.calls()
    hand.wake()
    hand.answer(200, lease(sent.spec.holder_identity))
    assert not hand.is_leading and hand.asked().request.verb == "update"
    assert hand.accept().is_leading


@given(st.integers(0, 9_999 * MILLISECOND))
def test_elect_4_the_lease_ends_a_deadline_after_the_renewal_was_sent(latency):
    """However late the response."""
    hand = Hand().answer(404)
    sent_at = hand.now
    if latency >= 5 * SECOND:  # it is given up (ELECT-3)
        hand.step(at=sent_at + latency)
        assert not hand.is_leading
        return
    hand.accept(after=latency)
    assert hand.is_leading
    last = hand.now
    while hand.is_leading:
        assert hand.now < sent_at + 10 * SECOND
        if hand.written():
            last = hand.now
        hand.wake()
    assert hand.now == sent_at + 10 * SECOND
    assert last >= hand.now - PERIOD and not hand.written()
    assert any(isinstance(effect, Unwatch) for effect in hand.effects)


@given(st.integers(0, 100 * SECOND))
def test_elect_4_a_paused_leader_sends_nothing_after_its_pause(pause):
    """The timer of the component and the response to its write wait for it."""
    hand = Hand().lead()
    [write] = hand.written()
    hand.step(Answered(write.id, Response(201, None)), at=hand.now + pause)
    assert hand.is_leading == (pause < 10 * SECOND)
    assert bool(hand.written()) == (PERIOD <= pause < 10 * SECOND)


def test_elect_4_a_renewal_that_was_sent_in_time_is_counted_before_the_end():
    hand = Hand().lead()
    hand.step(at=START + 8 * SECOND)
    hand.accept(after=3 * SECOND)
    assert hand.is_leading and hand.now == START + 11 * SECOND


@pytest.mark.parametrize("found", [lease(OTHER), lease(""), None])
def test_elect_4_a_leader_that_reads_another_holder_or_none_stops_at_once(found):
    hand = Hand().lead()
    hand.step(at=hand.now + 2 * SECOND)
    hand.answer(409)
    hand.answer(200 if found else 404, found)
    assert not hand.is_leading and not hand.written()
    assert hand.noted() == [f"{hand.state.identity} stopped leading"]


def test_elect_6_reading_its_own_identity_is_not_enough():
    hand = Hand()
    hand.answer(200, lease(hand.state.identity))
    assert not hand.is_leading
    hand.answer(409)
    assert not hand.is_leading
    hand.wake()
    hand.answer(409)
    hand.answer(200, lease(OTHER))
    assert not hand.is_leading and not hand.calls()


def test_elect_6_a_success_that_comes_after_the_end_of_the_lease_starts_nothing():
    config = ElectionConfig("writer", renew_deadline=10 * SECOND)
    hand = Hand(config).answer(404)
    late = evolve(hand.state.sent, at=hand.state.sent.at - 11 * SECOND)
    hand.state = evolve(hand.state, sent=late)
    hand.accept()
    assert not hand.is_leading


@given(st.integers(1, 1_000 * SECOND))
def test_elect_7_a_clock_that_was_set_back_ends_the_lease(by):
    hand = Hand().lead()
    hand.wake()
    hand.step(at=hand.now - by)
    assert not hand.is_leading and not hand.written()
    assert hand.asked().request.verb == "update"  # it renews at once
    assert hand.accept().is_leading


@given(st.integers(1, 1_000 * SECOND), st.booleans())
def test_elect_7_a_clock_that_was_set_makes_no_candidate_take_over_early(by, is_back):
    """Set back before its last step, or forward by more than a retry period."""
    hand = Hand().answer(200, lease(OTHER))
    for _ in range(3):
        hand.wake()
        hand.answer(200, lease(OTHER))
    hand.step(at=hand.now - by if is_back else hand.wake_at + 2 * SECOND + by)
    begin = hand.now
    while True:
        if hand.state.sent is None:
            hand.wake()
        hand.answer(200, lease(OTHER))
        if hand.calls():
            break
    assert begin + 15 * SECOND <= hand.now <= begin + 20 * SECOND


def test_elect_8_a_clean_stop_releases_after_the_last_response():
    hand = Hand().lead()
    [write] = hand.written()
    hand.step(Stopping(), at=hand.now + SECOND)
    assert not hand.is_leading and not hand.calls()
    hand.step(Answered(write.id, Response(201, None)))
    release = hand.asked().request
    assert release.verb == "update" and release.body.metadata.resource_version == "8"
    spec = release.body.spec
    assert (spec.holder_identity, spec.lease_duration_seconds, spec.lease_transitions) == ("", 1, 0)
    hand.accept()
    assert hand.wake_at is None and not hand.calls()


def test_elect_8_a_renewal_in_transit_is_awaited():
    hand = Hand().lead()
    [write] = hand.written()
    hand.step(Answered(write.id, Response(201, None)), at=hand.now + 500 * MILLISECOND)
    hand.step(at=START + 2 * SECOND)
    [write] = hand.written()
    hand.step(Stopping(), Answered(write.id, Response(201, None)))
    assert not hand.calls()
    body = lease(hand.state.identity, hand.now, version=9)
    hand.answer(200, body)
    assert hand.asked().request.body.metadata.resource_version == "9"


@given(st.integers(10 * SECOND, 100 * SECOND))
def test_elect_8_nothing_is_released_after_the_lease_has_ended(late):
    hand = Hand().lead()
    [write] = hand.written()
    hand.step(Stopping())
    hand.step(Answered(write.id, Response(201, None)), at=START + late)
    assert not hand.calls()


def test_elect_8_a_candidate_that_stops_writes_nothing():
    hand = Hand().answer(200, lease(OTHER))
    hand.step(Stopping())
    assert not hand.calls() and hand.wake_at is None


def test_elect_8_a_driver_waits_for_the_release():
    """The responses come in later turns of the event loop."""

    class Server:
        def __init__(self):
            self.cluster = new_cluster(0)

        def submit(self, request, answer, background=False):
            self.cluster, response = submit(self.cluster, request)
            asyncio.get_running_loop().call_later(0.002, answer, response)

        def watch(self, request, deliver, ended):
            return lambda: None

    server = Server()

    async def drive() -> list[str]:
        driver = Driver(elector(), server, Clock())
        driver.start()
        holders = []
        while not server.cluster.history.list(CONFIG_MAPS.prefix).records:
            await asyncio.sleep(0.001)
        for wait in (driver.finish(5), asyncio.sleep(0)):
            holders.append(stored_lease(server.cluster).spec.holder_identity)
            await wait
        return holders

    [holder, released] = [*asyncio.run(drive())]
    assert holder.startswith("host-a_") and released == ""


def test_elect_10_events_name_who_begins_and_who_stops():
    hand = Hand().lead()
    [event] = [
        effect
        for effect in hand.effects
        if isinstance(effect, Call) and effect.request.resource.plural == "events"
    ]
    body = event.request.body
    assert event.background and body.type == "Normal" and body.reason == "LeaderElection"
    assert body.message == f"{hand.state.identity} became leader"
    assert (body.involved_object.kind, body.involved_object.name) == ("Lease", "writer")
    assert event.request.namespace == "kube-system"
    hand.step(at=hand.now + 10 * SECOND)
    assert hand.noted() == [f"{hand.state.identity} stopped leading"]


@given(
    st.integers(-SECOND, 100_000 * SECOND),
    st.integers(-SECOND, 100 * SECOND),
    st.integers(-SECOND, 100 * SECOND),
)
def test_elect_11_only_times_that_exclude_two_leaders_are_taken(duration, deadline, period):
    is_safe = (
        duration % SECOND == 0
        and SECOND <= duration <= 86_400 * SECOND
        and duration > deadline > 1.2 * period
        and period >= MILLISECOND
    )
    try:
        ElectionConfig("writer", "kube-system", duration, deadline, period)
    except BadElection:
        assert not is_safe
    else:
        assert is_safe


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), (15, 10, 2, "kube-scheduler", "kube-system")),
        (
            ("--leader-elect-lease-duration=1m", "--leader-elect-renew-deadline=40s",
             "--leader-elect-retry-period", "1.5s", "--leader-elect-resource-name=a", "--leader-elect-resource-namespace=b"),
            (60, 40, 1.5, "a", "b"),
        ),
        (("--leader-elect=false",), None),
        (("--leader-elect", "--leader-elect-retry-period=500ms"), (15, 10, 0.5, "kube-scheduler", "kube-system")),
    ],
)  # fmt: skip
def test_elect_11_the_flags_are_those_of_upstream(monkeypatch, flags, expected):
    """ELECT-11, PROC-5: from the command line to the configuration."""
    seen = []
    monkeypatch.setattr(component_process, "run_scheduler", lambda options: seen.append(options))
    result = CliRunner().invoke(scheduler, list(flags))
    assert result.exit_code == 0, result.output
    [options] = seen
    assert options.leader_elect == (expected is not None)
    if expected is not None:
        config = component_process.find_election(options, "kube-scheduler")
        times = (config.lease_duration, config.renew_deadline, config.retry_period)
        assert (*[time / SECOND for time in times], config.name, config.namespace) == expected


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ({"leader_elect_lease_duration": "10s"}, "greater than the renew deadline"),
        ({"leader_elect_lease_duration": "15500ms"}, "whole number of seconds"),
        ({"leader_elect_retry_period": "soon"}, "not a duration"),
        ({"leader_elect_resource_name": "A_b"}, "not the name of a Lease"),
        ({"leader_elect_resource_namespace": "a.b"}, "not the name of a namespace"),
    ],
)
def test_elect_11_a_flag_that_is_not_allowed_is_refused_in_one_line(flag, words):
    with pytest.raises(CannotRun, match=words) as refused:
        component_process.find_election(component_process.ElectedOptions(**flag), "x")
    assert "\n" not in str(refused.value) and "--leader-elect" in str(refused.value)


def test_elect_12_what_an_earlier_leader_requested_is_dropped():
    hand = Hand().lead()
    [write] = hand.written()
    watch = next(effect for effect in hand.effects if hasattr(effect, "id") and effect.id % 2)
    hand.step(at=hand.now + 10 * SECOND)
    hand.accept()
    assert hand.is_leading
    [again] = hand.written()
    assert again.id != write.id
    hand.step(Answered(write.id, Response(201, None)), Watched(watch.id, ()))
    assert hand.state.leading.state.events == ()
    hand.step(Answered(again.id, Response(201, None)))
    assert hand.state.leading.state.events == (Answered(2, Response(201, None)),)


# --- several in a cluster -------------------------------------------------------------------------

FAULTS = ["crash", "lose", "give up", "twice", "cut", "suspend", "partition", "skew"]


def leaders(cluster: Cluster) -> list[str]:
    states = [cluster.components[name].state for name in sorted(cluster.components)]
    return [s.identity for s in states if isinstance(s, ElectorState) and s.leading is not None]


@given(choices, st.integers(1, 3))
def test_elect_5_only_the_stored_holder_acts_whatever_happens(drawn, instances):
    run(new_cluster(instances), drawn, check, FAULTS)


@given(choices, st.integers(1, 3))
def test_elect_9_after_faults_one_leads(drawn, instances):
    cluster = run(new_cluster(instances), drawn, check, FAULTS)
    cluster = settle(cluster, check, seconds_max=90)
    assert not laws.one_leads(cluster)
    assert leaders(cluster) == [stored_lease(cluster).spec.holder_identity]
    assert cluster.history.list(CONFIG_MAPS.prefix).records
