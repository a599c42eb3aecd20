"""What extenders are asked and what their answers mean, in full and without a cluster, beside a plain
reading of SCHED-57 to SCHED-61 (spec/scheduler_profiles.md).

`test_sched_extenders.py` shows the same rules in a running scheduler."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace
from sched_worlds import a_node, a_pod, placed

from refk8s.core.api import codec
from refk8s.core.api.core_v1 import Container, ResourceRequirements
from refk8s.core.ports import Failed, Posted, Tls
from refk8s.core.scheduler.consult import Asked, Consult, Needed, Question
from refk8s.core.scheduler.extenders import (
    BadAnswer,
    Extender,
    Victims,
    ask_about,
    ask_for_victims,
    ask_to_bind,
    read_binding,
    read_scores,
    read_verdict,
    read_victims,
)
from refk8s.core.scheduler.preempt import Eviction, rank_of
from refk8s.core.scheduler.queue import Queue
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.snapshot import info_of, recompute

URL, GPU = "http://h:1/x", "example.com/gpu"
TLS = Tls(server_name="y")
BOTH = (
    Extender(URL, "f", "p", "v", "b", 2, True, seconds=7.0, tls=TLS),
    Extender(URL, "f", "p", "v", "b", 2, False, seconds=7.0, tls=TLS),
)
BY_NAME, WHOLE = BOTH


def posted(tree, code=200):
    return Posted(code, msgspec.json.encode(tree))


def refused(call, *args):
    with pytest.raises(BadAnswer) as error:
        call(*args)
    return str(error.value)


# --- who is asked ---------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["containers", "init_containers"])
@pytest.mark.parametrize("part", ["requests", "limits"])
def test_sched_57_a_pod_is_of_interest_by_any_of_its_containers(where, part):
    plain = Container(name="c", resources=ResourceRequirements(requests={"cpu": "1"}))
    special = Container(name="d", resources=ResourceRequirements(**{part: {"cpu": "1", GPU: "1"}}))
    pod = a_pod("p")
    spec = replace(pod.spec, containers=(plain,))
    spec = replace(spec, **{where: (plain, special)})
    extender = Extender(URL, managed=frozenset({GPU, "other.com/x"}))
    assert extender.is_interested(replace(pod, spec=spec))
    assert not extender.is_interested(replace(pod, spec=replace(spec, **{where: (plain,)})))
    bare = Container(name="e", resources=None)
    assert not extender.is_interested(replace(pod, spec=replace(spec, **{where: (bare,)})))
    assert Extender(URL).is_interested(pod), "without managed resources every pod is"


# --- questions ------------------------------------------------------------------------------------


def tree_of(post, verb):
    assert (post.url, post.seconds, post.tls) == (f"{URL}/{verb}", 7.0, TLS)
    return msgspec.json.decode(post.body)


def plain(obj):
    return msgspec.json.decode(codec.encode(obj))


def test_sched_57_the_questions_in_full():
    pod, nodes = placed(a_pod("p"), "", "u"), [a_node("a"), a_node("b")]
    assert tree_of(ask_about(BY_NAME, "z", pod, nodes), "z") == {
        "Pod": plain(pod),
        "Nodes": None,
        "NodeNames": ["a", "b"],
    }
    assert tree_of(ask_about(WHOLE, "z", pod, nodes), "z") == {
        "Pod": plain(pod),
        "Nodes": {"metadata": {}, "items": [plain(one) for one in nodes]},
        "NodeNames": None,
    }
    victims = {"a": ([placed(a_pod("q"), "a", "v"), placed(a_pod("r"), "a", "w")], 1), "b": ([], 0)}
    assert tree_of(ask_for_victims(BY_NAME, pod, victims), "v") == {
        "Pod": plain(pod),
        "NodeNameToVictims": None,
        "NodeNameToMetaVictims": {
            "a": {"Pods": [{"UID": "v"}, {"UID": "w"}], "NumPDBViolations": 1},
            "b": {"Pods": [], "NumPDBViolations": 0},
        },
    }
    assert tree_of(ask_for_victims(WHOLE, pod, victims), "v") == {
        "Pod": plain(pod),
        "NodeNameToMetaVictims": None,
        "NodeNameToVictims": {
            "a": {"Pods": [plain(one) for one in victims["a"][0]], "NumPDBViolations": 1},
            "b": {"Pods": [], "NumPDBViolations": 0},
        },
    }
    assert tree_of(ask_to_bind(BY_NAME, pod, "n"), "b") == {
        "PodName": "p",
        "PodNamespace": "default",
        "PodUID": "u",
        "Node": "n",
    }
    assert Extender(f"{URL}//").address("v") == f"{URL}/v"
    assert Extender(f"{URL}/X").address("v") == f"{URL}/X/v"


# --- answers that cannot be used ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (Failed("Unanswered", "no route"), "no route"),
        (Posted(404, b"{}"), f"failed f with extender at URL {URL}/f, code 404"),
        (Posted(200, b""), "EOF"),
        (posted([]), "the answer is not an object"),
        (posted({"Error": "no"}), "no"),
        (posted({"error": 5}), "5"),
        (posted({"NodeNames": {}}), "the answer has something else in place of a list"),
        (
            posted({"NodeNames": ["z", "y"]}),
            f'extender "{URL}" claims a filtered node "y" which is not found in the '
            "input node list",
        ),
    ],
)
def test_sched_58_sched_61_why_an_answer_cannot_be_used(result, words):
    assert refused(read_verdict, BY_NAME, ["a"], result) == words
    assert refused(read_verdict, BY_NAME, ["a"], Posted(200, b"{")).startswith(
        "the answer is not JSON: "
    )
    if isinstance(result, Posted) and b"NodeNames" not in result.body:
        assert refused(read_binding, BY_NAME, result) == words.replace("/f", "/b").replace(
            "failed f", "failed b"
        )
    assert read_binding(BY_NAME, posted({"Error": ""})) is None
    assert len(refused(read_verdict, BY_NAME, [], Failed("x", "y" * 2000))) == 1024


# --- the filter -----------------------------------------------------------------------------------


def verdict(tree, names=("a", "b", "c"), extender=BY_NAME):
    found = read_verdict(extender, list(names), posted(tree))
    return sorted(found.passing), {
        name: (one.messages, one.resolvable) for name, one in found.refusals.items()
    }


def test_sched_58_the_nodes_that_pass_and_why_others_do_not():
    said = {
        "FailedNodes": {"b": "full", "c": "x"},
        "FailedAndUnresolvableNodes": {"c": "never", "z": "?"},
    }
    expected = (["a"], {"b": (("full",), True), "c": (("never",), False)})
    assert verdict({"NodeNames": ["a", 5, None], **said}) == expected
    items = [{"metadata": {"name": "a"}}, {"metadata": {"name": 7}}, {}, 3]
    assert verdict({"Nodes": {"items": items}, **said}, extender=WHOLE) == expected
    assert verdict({"Nodes": {"items": items}, **said}) == expected, "without names, by the objects"
    assert verdict({"NodeNames": ["a"], **said}, extender=WHOLE)[0] == [], "names are not asked for"
    lower = {key[0].lower() + key[1:]: value for key, value in {"NodeNames": ["a"], **said}.items()}
    assert verdict(lower) == expected, "in any case of letters"
    # one without a word, and one with an empty word
    assert verdict({"FailedNodes": {"b": ""}}, "ab") == ([], {"a": ((), False), "b": ((), True)})
    assert verdict({"Nodes": None}, "a", WHOLE) == ([], {"a": ((), False)})
    found = read_verdict(BY_NAME, ["a"], posted({"FailedNodes": {"a": "x" * 300}}))
    assert found.refusals["a"] == Refusal(URL, ("x" * 256,), True)
    assert verdict({"FailedNodes": {"a": 5}}, "a")[1] == {"a": (("5",), True)}
    assert verdict({"FailedNodes": ["a"]}, "a")[1] == {"a": ((), False)}


def test_d_411_at_most_fifty_different_messages_are_kept():
    names = [f"n{at:02}" for at in range(52)]
    failed = {name: f"m{at}" for at, name in enumerate(names)}
    refusals = read_verdict(BY_NAME, names, posted({"FailedNodes": failed})).refusals
    assert [refusals[name].messages for name in names[48:]] == [("m48",), ("m49",), (), ()]
    assert all(one.resolvable for one in refusals.values())
    again = {**failed, "n51": "m3"}
    refusals = read_verdict(BY_NAME, names, posted({"FailedNodes": again})).refusals
    assert refusals["n51"] is refusals["n03"], "a known message is counted with its own"
    hopeless = {"FailedAndUnresolvableNodes": failed}
    refusals = read_verdict(BY_NAME, names, posted(hopeless)).refusals
    assert refusals["n51"] == Refusal(URL, (), False)


# --- scores, victims ------------------------------------------------------------------------------


def test_sched_59_scores_count_from_0_to_10_with_the_weight():
    scores = [
        {"Host": "a", "Score": 10},
        {"host": "b", "score": 3},
        {"Host": "c", "Score": -1},
        {"Host": "d", "Score": 11},
        {"Host": "b", "Score": 1},
        {"Host": 5, "Score": 1},
        {"Host": "e", "Score": True},
        {"Host": "e", "Score": "1"},
        7,
        {},
    ]
    assert read_scores(BY_NAME, posted(scores)) == {"a": 200, "b": 80, "c": 0, "d": 200}
    assert read_scores(BY_NAME, posted(None)) == {}
    assert refused(read_scores, BY_NAME, Posted(500, b"")) == (
        f"failed p with extender at URL {URL}/p, code 500"
    )


CANDIDATES = {"a": frozenset({"u", "v"}), "b": frozenset({"w"})}


def victims(tree, extender=BY_NAME):
    return read_victims(extender, CANDIDATES, posted({"NodeNameToMetaVictims": tree}))


def pods(*uids):
    return [{"UID": uid} for uid in uids]


def test_sched_60_the_victims_that_an_extender_leaves():
    found = victims({"a": {"Pods": pods("v", "u", "v"), "NumPDBViolations": 1}})
    assert found == {"a": Victims(("v", "u"), 1)}
    for number, counted in ((0, 0), (-1, 0), (1, 1), (9, 1), (True, 0), ("1", 0), (None, 0)):
        found = victims({"b": {"Pods": pods("w"), "NumPDBViolations": number}})
        assert found == {"b": Victims(("w",), counted)}
    assert victims({}) == victims(None) == victims([]) == {}
    assert refused(victims, {"z": {}}) == 'nodeinfo not found for node name "z"'
    words = (
        f"extender: {URL} claims to preempt pod (UID: w) on node: a, "
        "but the pod is not found on that node"
    )
    assert refused(victims, {"a": {"Pods": pods("u", "w")}}) == words
    assert refused(victims, {"a": {"Pods": []}}) == ('expected at least one victim pod on node "a"')
    ignorable = replace(BY_NAME, is_ignorable=True)
    both = {"a": {"Pods": []}, "b": {"Pods": pods("w")}}
    assert victims(both, ignorable) == {"b": Victims(("w",), 0)}
    assert refused(read_victims, BY_NAME, CANDIDATES, Posted(404, b"")) == (
        f"failed v with extender at URL {URL}/v, code 404"
    )


# --- a decision with answers ----------------------------------------------------------------------

POD = placed(a_pod("p", priority=10), "", "u-p")
NODES = {name: a_node(name) for name in "abc"}


def consult(*extenders, asked=(), pod_of=None, uid="u-p"):
    question = Question("default/p", uid, tuple(asked)) if asked else None
    return Consult(extenders, question, pod_of or {"default/p": POD}.get, NODES.get)


def asked(number, verb, names, result=None):
    return Asked(number, verb, tuple(names), ask_about(BY_NAME, verb, POD, []), result)


def needed_by(call, *args):
    with pytest.raises(Needed) as needed:
        call(*args)
    return [(one.number, one.verb, one.names, one.result) for one in needed.value.asked]


FIRST = Extender(URL, "f1", "p1", "v1", has_node_cache=True)
SECOND = Extender(f"{URL}/2", "f2", "p2", "v2", has_node_cache=True, weight=3)


def test_sched_58_each_extender_is_asked_about_what_the_one_before_it_left():
    who = [(0, FIRST), (1, SECOND)]
    one = consult(FIRST, SECOND)
    assert needed_by(one.filter, who, POD, "abc") == [(0, "f1", ("a", "b", "c"), None)]
    answer = asked(0, "f1", "abc", posted({"NodeNames": ["a", "c"], "FailedNodes": {"b": "no"}}))
    two = consult(FIRST, SECOND, asked=[answer])
    assert needed_by(two.filter, who, POD, "abc") == [(1, "f2", ("a", "c"), None)]
    last = asked(1, "f2", "ac", posted({"NodeNames": ["c"]}))
    done = consult(FIRST, SECOND, asked=[answer, last])
    left, refusals = done.filter(who, POD, "abc")
    assert left == ["c"]
    assert refusals == {
        "a": Refusal(SECOND.url, (), False),
        "b": Refusal(FIRST.url, ("no",), True),
    }
    # a node that became suitable after the question is not one of the answer
    left, refusals = done.filter(who[:1], POD, "abcd")
    assert left == ["a", "c"] and refusals["d"] == Refusal(FIRST.url, (), True)
    # without a verb, or without nodes, nothing is asked
    silent = replace(FIRST, filter_verb="")
    assert consult(silent).filter([(0, silent)], POD, "ab") == (["a", "b"], {})
    assert consult(FIRST).filter(who, POD, "") == ([], {})
    nothing = asked(0, "f1", "abc", posted({"NodeNames": []}))
    assert consult(FIRST, SECOND, asked=[nothing]).filter(who, POD, "a")[0] == []
    # an answer that cannot be used
    bad = consult(FIRST, asked=[asked(0, "f1", "abc", Posted(500, b""))])
    with pytest.raises(BadAnswer):
        bad.filter(who[:1], POD, "abc")
    ignorable = replace(FIRST, is_ignorable=True)
    assert bad.filter([(0, ignorable)], POD, "abc") == (["a", "b", "c"], {})
    both = consult(
        FIRST,
        SECOND,
        asked=[bad.question.asked[0], asked(1, "f2", "abc", posted({"NodeNames": ["b"]}))],
    )
    assert both.filter([(0, ignorable), (1, SECOND)], POD, "abc")[0] == ["b"]


def test_sched_58_only_nodes_that_there_are_are_sent():
    with pytest.raises(Needed) as needed:
        consult(FIRST).filter([(0, FIRST)], POD, ["a", "gone"])
    (one,) = needed.value.asked
    assert one.names == ("a", "gone")
    assert msgspec.json.decode(one.post.body)["NodeNames"] == ["a"]
    assert msgspec.json.decode(one.post.body)["Pod"]["metadata"]["name"] == "p"


def test_sched_59_all_extenders_are_asked_for_points_at_once_and_their_points_added():
    silent = replace(FIRST, prioritize_verb="")
    who = [(0, FIRST), (1, SECOND), (2, silent)]
    assert needed_by(consult().points, who, POD, "ab") == [
        (0, "p1", ("a", "b"), None),
        (1, "p2", ("a", "b"), None),
    ]
    first = asked(0, "p1", "ab", posted([{"Host": "a", "Score": 2}]))
    assert needed_by(consult(asked=[first]).points, who, POD, "ab") == [(1, "p2", ("a", "b"), None)]
    second = asked(1, "p2", "ab", posted([{"Host": "a", "Score": 1}, {"Host": "b", "Score": 1}]))
    assert consult(asked=[first, second]).points(who, POD, "ab") == {"a": 50, "b": 30}
    broken = asked(0, "p1", "ab", Posted(500, b""))
    assert consult(asked=[broken, second]).points(who, POD, "ab") == {"a": 30, "b": 30}
    assert consult().points([(2, silent)], POD, "ab") == {}


def since(pod):
    return f"2026-01-01T00:00:0{len(pod.name)}Z"


def test_sched_60_extenders_choose_among_pods_of_lower_priority():
    there = [
        placed(a_pod(name, priority=priority), "a", name)
        for name, priority in (("x", 1), ("yy", 5), ("z", 10))
    ]
    snapshot = recompute(list(NODES.values()), there)
    infos = {one.metadata.name: info_of(one) for one in there}
    known = {f"default/{one.metadata.name}": one for one in there}
    victims_ = (infos["x"],)
    candidates = [
        Eviction("a", victims_, 0, rank_of("a", victims_, 0, since)),
        Eviction("b", (), 0),
    ]
    one = Consult([FIRST], None, known.get, NODES.get)
    with pytest.raises(Needed) as needed:
        one.victims([(0, FIRST)], POD, candidates, snapshot, since)
    (question,) = needed.value.asked
    assert (question.number, question.verb, question.names) == (0, "v1", ("a", "b"))
    assert msgspec.json.decode(question.post.body)["NodeNameToMetaVictims"] == {
        "a": {"Pods": [{"UID": "x"}], "NumPDBViolations": 0},
        "b": {"Pods": [], "NumPDBViolations": 0},
    }
    tree = {"NodeNameToMetaVictims": {"a": {"Pods": pods("x", "yy"), "NumPDBViolations": 1}}}
    done = consult(FIRST, asked=[replace(question, result=posted(tree))])
    (found,) = done.victims([(0, FIRST)], POD, candidates, snapshot, since)
    chosen = (infos["yy"], infos["x"])
    assert (found.node, [v.name for v in found.victims], found.violations) == ("a", ["yy", "x"], 1)
    assert found.rank == rank_of("a", chosen, 1, since)
    # one of the same priority, or none that is there, may not be chosen
    equal = {"NodeNameToMetaVictims": {"a": {"Pods": pods("z")}}}
    bad = consult(FIRST, asked=[replace(question, result=posted(equal))])
    with pytest.raises(BadAnswer):
        bad.victims([(0, FIRST)], POD, candidates, snapshot, since)
    ignorable = replace(FIRST, is_ignorable=True)
    assert bad.victims([(0, ignorable)], POD, candidates, snapshot, since) == candidates
    silent = replace(FIRST, preempt_verb="")
    assert consult().victims([(0, silent)], POD, candidates, snapshot, since) == candidates
    assert consult().victims([(0, FIRST)], POD, [], snapshot, since) == []
    # the next extender is asked about what the first has left
    both = [(0, FIRST), (1, SECOND)]
    assert needed_by(done.victims, both, POD, candidates, snapshot, since) == [
        (1, "v2", ("a",), None)
    ]
    last = [(0, ignorable), (1, SECOND)]
    assert needed_by(bad.victims, last, POD, candidates, snapshot, since) == [
        (1, "v2", ("a", "b"), None)
    ]


# --- whose turn it is -----------------------------------------------------------------------------


def test_sched_57_the_answers_of_a_question():
    first, second = asked(0, "f", "a"), asked(0, "p", "a")
    question = Question("default/p", "u", (first, second))
    assert question.is_open and not Question("default/p", "u").is_open
    after = question.with_result(first.post, posted(1))
    assert [one.result for one in after.asked] == [posted(1), None] and after.is_open
    assert after.asked[1] is second and (after.asked[0].post, after.key) == (
        first.post,
        question.key,
    )
    done = after.with_result(second.post, posted(2))
    assert not done.is_open and done.asked[0].result == posted(1)
    again = done.with_result(first.post, posted(3))
    assert again.asked[0].result == posted(1), "the first answer counts"


def waiting(*names, special=()):
    queue = Queue()
    for name in names:
        queue = queue.admit(f"default/{name}", info_of(placed(a_pod(name), "", f"u-{name}")))
    return queue, [queue.pods[f"default/{name}"] for name in names]


def test_sched_57_d_410_while_an_answer_is_missing_only_other_pods_are_tried():
    managing = replace(FIRST, managed=frozenset({GPU}))
    special = placed(a_pod("s", {GPU: "1"}), "", "u-s")
    known = {"default/p": POD, "default/s": special}
    queue, (p, q, s) = waiting("p", "q", "s")
    assert consult(managing).order([p, q, s], queue) == [p, q, s]
    still = consult(managing, asked=[asked(0, "f1", "a")], pod_of=known.get)
    assert still.order([p, q, s], queue) == [p, q], "one that is gone is of no interest"
    everyone = consult(FIRST, asked=[asked(0, "f1", "a")], pod_of=known.get)
    assert everyone.order([p, q, s], queue) == [q]
    done = consult(managing, asked=[asked(0, "f1", "a", posted(1))], pod_of=known.get)
    assert done.order([q, s], queue) == [p, q, s] and done.order([s, p], queue) == [p, s]
    assert done.question is not None
    for gone in (consult(FIRST, asked=[asked(0, "f1", "a", posted(1))], uid="other"), done):
        there = queue if gone is not done else queue.without(["default/p"])
        assert gone.order([q, s], there) == [q, s] and gone.question is None
    assert consult(FIRST, managing).concerned(special) == [(0, FIRST), (1, managing)]
    assert consult(managing, FIRST).concerned(POD) == [(1, FIRST)]


def test_sched_57_one_pod_is_asked_about_at_a_time():
    _, (p, q) = waiting("p", "q")
    free = consult(FIRST)
    assert free.is_turn_of(p) and free.is_turn_of(q)
    held = consult(FIRST, asked=[asked(0, "f1", "a")])
    assert not held.is_turn_of(p) and not held.is_turn_of(q)
    done = consult(FIRST, asked=[asked(0, "f1", "a", posted(1))])
    assert done.is_turn_of(p) and not done.is_turn_of(q)
    other = consult(FIRST, asked=[asked(0, "f1", "a", posted(1))], uid="other")
    assert not other.is_turn_of(p), "another pod of the same name"
    new = asked(0, "p1", "a")
    done.ask(p, Needed([new]))
    assert (done.question.key, done.question.uid) == ("default/p", "u-p")
    assert asked_of(done)[1] is new and asked_of(done)[0].result == posted(1)
    assert len(asked_of(done)) == 2 and done.posts == (new.post,)
    free.ask(q, Needed([new]))
    assert (free.question.key, free.question.uid, asked_of(free)) == ("default/q", "u-q", (new,))
    done.end()
    assert done.question is None and done.is_turn_of(q)


def asked_of(one):
    return one.question.asked


def questions_by(call, *args):
    """(URL, name of the pod) of what is asked."""
    with pytest.raises(Needed) as needed:
        call(*args)
    found = [(one.post.url, msgspec.json.decode(one.post.body)) for one in needed.value.asked]
    return [(url, tree["Pod"]["metadata"]["name"]) for url, tree in found]


def test_sched_57_each_question_goes_to_its_extender_and_verb_and_is_about_the_pod():
    """Also if an extender before it has no such verb."""
    silent = replace(FIRST, filter_verb="", preempt_verb="", prioritize_verb="")
    snapshot = recompute(list(NODES.values()), [])
    for who in ([(1, SECOND)], [(0, silent), (1, SECOND)]):
        one = consult(silent, SECOND)
        assert one.posts == ()
        assert questions_by(one.filter, who, POD, "ab") == [(f"{URL}/2/f2", "p")]
        assert questions_by(one.points, who, POD, "ab") == [(f"{URL}/2/p2", "p")]
        candidates = [Eviction("a", (), 0)]
        asked_ = questions_by(one.victims, who, POD, candidates, snapshot, since)
        assert asked_ == [(f"{URL}/2/v2", "p")]


def test_sched_60_a_pod_without_a_priority_has_the_priority_0():
    snapshot = recompute(list(NODES.values()), [placed(a_pod("x", priority=0), "a", "x")])
    tree = {"NodeNameToMetaVictims": {"a": {"Pods": pods("x")}}}
    answer = consult(FIRST, asked=[asked(0, "v1", "a", posted(tree))])
    plain_pod = placed(a_pod("p"), "", "u-p")
    with pytest.raises(BadAnswer):
        answer.victims([(0, FIRST)], plain_pod, [Eviction("a", (), 0)], snapshot, since)
