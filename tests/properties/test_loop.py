"""The loop around every decider (spec/loop.md), shown with a decider that keeps a number of config
maps."""

from hypothesis import given
from runs import choices, faults, run, settle, with_default_namespace

from refk8s.checking.simulator import scenario
from refk8s.core.actions import Answer, Arrive, Duplicate, LoseAnswer, Notify, Submit
from refk8s.core.api import codec
from refk8s.core.api.apps_v1 import Deployment
from refk8s.core.api.core_v1 import ConfigMap, ConfigMapList
from refk8s.core.api.meta_v1 import DeleteOptions, ListMeta, ObjectMeta, Preconditions
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import CONFIG_MAPS, NAMESPACES, PODS
from refk8s.core.api.user import ADMIN, User
from refk8s.core.apiserver.authorize.controller_roles import CONTROLLER_ROLES
from refk8s.core.cluster.enabled import enabled
from refk8s.core.cluster.state import Cluster, begin
from refk8s.core.cluster.step import start_all, step
from refk8s.core.context import MILLISECOND, SECOND
from refk8s.core.loop.draft import BACKOFF_FIRST, BACKOFF_MAX
from refk8s.core.loop.loop import Loop
from refk8s.core.loop.plan import NOTHING, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.view import View, namespace_index
from refk8s.core.machine import Answered, Call, WakeAt
from refk8s.core.properties.laws.watch import views_are_past_states, views_never_go_back

WANTED = 3
START = 1_700_000_000 * SECOND


class Keeper(Reconciler):
    """Keeps WANTED config maps in the namespace default."""

    name = "keeper"
    interests = (Interest(CONFIG_MAPS, lambda view, old, new: ("all",)),)
    indexes = (namespace_index(CONFIG_MAPS),)
    initial_keys = ("all",)

    def reconcile(self, view: View, key: str, now: int, local: Local) -> Plan:
        kept = view.indexed(CONFIG_MAPS, "namespace", "default")
        body = ConfigMap(metadata=ObjectMeta(generate_name="kept-", namespace="default"))
        missing = tuple(
            Request("create", CONFIG_MAPS, "default", body=body, because="too few")
            for _ in range(WANTED - len(kept))
        )
        surplus = tuple(
            Request(
                "delete",
                CONFIG_MAPS,
                "default",
                extra.metadata.name,
                body=DeleteOptions(preconditions=Preconditions(uid=extra.metadata.uid)),
                because="too many",
            )
            for extra in kept[WANTED:]
        )
        return Plan((missing + surplus,)) if missing or surplus else NOTHING


def new_cluster(reconciler: Reconciler | None = None) -> Cluster:
    cluster = begin({"keeper": Loop("keeper", [reconciler or Keeper()])}, {}, b"seed", START)
    return start_all(with_default_namespace(cluster))


def stored(cluster: Cluster) -> list[ConfigMap]:
    return [record.value for record in cluster.history.list(CONFIG_MAPS.prefix).records]


def never_too_many(before: Cluster, after: Cluster) -> list[str]:
    wrong = [*views_are_past_states(after), *views_never_go_back(before, after)]
    if len(stored(after)) > WANTED:
        wrong.append(f"LOOP-4/6: {len(stored(after))} config maps where {WANTED} are wanted")
    return wrong


def views_hold(before: Cluster, after: Cluster) -> list[str]:
    return [*views_are_past_states(after), *views_never_go_back(before, after)]


@given(choices)
def test_loop_3_loop_4_late_watches_and_answers_never_make_one_too_many(drawn):
    cluster = settle(run(new_cluster(), drawn, never_too_many), never_too_many)
    assert len(stored(cluster)) == WANTED


@given(choices)
def test_loop_6_lost_answers_never_make_one_too_many_in_one_life(drawn):
    cluster = settle(
        run(new_cluster(), drawn, never_too_many, ["lose", "give up", "cut", "compact"]),
        never_too_many,
    )
    assert len(stored(cluster)) == WANTED


@given(choices)
def test_loop_7_requests_that_arrive_twice_never_make_one_too_many(drawn):
    cluster = settle(
        run(new_cluster(), drawn, never_too_many, ["twice", "lose", "cut"]), never_too_many
    )
    assert len(stored(cluster)) == WANTED


def test_loop_7_who_meets_the_name_that_it_has_chosen_looks_up_what_is_there():
    """The copy of a create comes first, and the view knows nothing of it yet."""
    cluster, create = until(new_cluster(), Arrive)
    while cluster.flying[create.flying].request.verb != "create":
        cluster, create = until(step(cluster, create), Arrive)
    cluster = step(step(cluster, Duplicate(create.flying)), create)
    assert cluster.flying[create.flying].answer.code == 409
    cluster = step(cluster, Answer(create.flying))
    asked = [flying.request for flying in cluster.flying.values() if flying.answer is None]
    selector = f"metadata.name={stored(cluster)[0].metadata.name}"
    assert ("list", selector) in [
        (request.verb, request.options.field_selector) for request in asked
    ]
    assert len(stored(settle(cluster, never_too_many))) == WANTED


@given(choices)
def test_loop_8_watch_1_watch_2_after_crashes_it_still_comes_to_what_is_wanted(drawn):
    cluster = settle(
        run(new_cluster(), drawn, views_hold, ["crash", "lose", "give up", "cut", "compact"]),
        views_hold,
    )
    assert len(stored(cluster)) == WANTED


def until(cluster: Cluster, kind: type, most: int = 50) -> tuple[Cluster, object]:
    """Go on until an action of this kind is enabled."""
    for _ in range(most):
        actions = list(enabled(cluster))
        for action in actions:
            if isinstance(action, kind):
                return cluster, action
        cluster = step(cluster, actions[0])
    raise AssertionError(f"no {kind.__name__} within {most} steps")


def test_loop_6_sometimes_an_answer_is_lost_and_the_second_sending_meets_the_first():
    cluster = new_cluster()
    while not stored(cluster):
        cluster = step(cluster, next(enabled(cluster)))
    [lost] = [a for a in faults(cluster, ["lose"]) if isinstance(a, LoseAnswer)][:1]
    cluster = step(cluster, lost)
    name = stored(cluster)[0].metadata.name
    codes = []
    for _ in range(200):
        action = next(enabled(cluster), None)
        if action is None:
            break
        if isinstance(action, Answer):
            flying = cluster.flying[action.flying]
            asked = flying.request
            codes.append(
                (asked.verb, asked.name or asked.options.field_selector, flying.answer.code)
            )
        cluster = step(cluster, action)
    assert ("create", name, 409) in codes  # LOOP-6
    assert ("list", f"metadata.name={name}", 200) in codes  # LOOP-7
    assert len(stored(cluster)) == WANTED


def test_loop_1_nothing_is_decided_before_the_first_list():
    loop = Loop("keeper", [Keeper()])
    state, effects = loop.start(START, b"x")
    assert [effect.request.verb for effect in effects if isinstance(effect, Call)] == ["list"]
    state, effects = loop.step(state, [Answered(effects[0].id, None)], START)
    assert not [effect for effect in effects if isinstance(effect, Call)]
    assert [effect for effect in effects if isinstance(effect, WakeAt)]  # WATCH-6: it rests


class Counting(Keeper):
    """Counts decisions in its memory."""

    def start_memory(self, now: int) -> int:
        return 0

    def reconcile(self, view: View, key: str, now: int, local: Local) -> Plan:
        return Plan(memory=local.memory + 1)


def test_loop_2_a_burst_of_changes_costs_one_decision():
    cluster = settle(new_cluster(Counting()), views_hold)
    before = cluster.components["keeper"].state.memories["keeper"]
    for n in range(20):
        body = ConfigMap(metadata=ObjectMeta(name=f"c{n}", namespace="default"))
        cluster = step(
            cluster, Submit(Request("create", CONFIG_MAPS, "default", body=body, user=ADMIN))
        )
    cluster, notify = until(cluster, Notify)
    cluster = step(cluster, notify)
    assert cluster.components["keeper"].state.memories["keeper"] == before + 1
    assert len(cluster.components["keeper"].state.view.list(CONFIG_MAPS)) == 20  # WATCH-7
    assert (
        len(
            cluster.components["keeper"].state.view.indexed_keys(
                CONFIG_MAPS, "namespace", "default"
            )
        )
        == 20
    )


class Refused(Keeper):
    """Plans waves of 1, 2 and 4, and a last word."""

    def reconcile(self, view: View, key: str, now: int, local: Local) -> Plan:
        if local.failures >= 3:
            return NOTHING
        make = [
            Request(
                "create",
                CONFIG_MAPS,
                "default",
                name,
                body=ConfigMap(metadata=ObjectMeta(name=name)),
                user=ADMIN,
            )
            for name in "abcdefg"
        ]
        return Plan(
            (tuple(make[:1]), tuple(make[1:3]), tuple(make[3:])),
            last=(Request("get", NAMESPACES, name="default", user=ADMIN),),
        )


def test_loop_5_a_refusal_ends_the_plan_and_the_key_backs_off_doubling():
    loop = Loop("keeper", [Refused()])
    state, effects = loop.start(START, b"x")
    listed = Response(200, ConfigMapList(metadata=ListMeta(resource_version="5"), items=()))
    now, sent, wakes = START, [], []
    state, effects = loop.step(state, [Answered(effects[0].id, listed)], now)
    for _ in range(60):
        calls = [effect for effect in effects if isinstance(effect, Call)]
        sent += [call.request.name for call in calls]
        for effect in effects:
            if isinstance(effect, WakeAt) and effect.at is not None and effect.at > now:
                wakes.append(effect.at - now)
        if calls:
            answers = [
                Answered(call.id, Response(403 if call.request.name == "b" else 200, None))
                for call in calls
            ]
            state, effects = loop.step(state, answers, now)
        elif wakes:
            now += wakes[-1]
            wakes_before = len(wakes)
            state, effects = loop.step(state, [], now)
            if not effects and len(wakes) == wakes_before:
                break
    assert sent == ["a", "b", "c", "default"] * 3
    assert [wait for wait in wakes if wait >= BACKOFF_FIRST][:3] == [
        5 * MILLISECOND,
        10 * MILLISECOND,
        20 * MILLISECOND,
    ]
    assert BACKOFF_MAX == 1_000 * SECOND


NODES = ("node-1", "node-2")
AUTHENTICATED = "system:authenticated"


def expected_user(machine: str, request: Request) -> User:
    """The user that upstream's component of this kind has."""
    component, _, node = machine.partition("/")
    if component in ("kubelet", "network"):  # the network of a node is part of its kubelet
        return User(f"system:node:{node}", groups=("system:nodes", AUTHENTICATED))
    if component == "dns":
        groups = ("system:serviceaccounts", "system:serviceaccounts:kube-system", AUTHENTICATED)
        return User("system:serviceaccount:kube-system:coredns", groups=groups)
    if (
        component != "kube-controller-manager"
        or request.verb == "watch"
        or (request.verb == "list" and not request.namespace)
    ):
        component = {"proxy": "kube-proxy"}.get(component, component)
        return User(f"system:{component}", groups=(AUTHENTICATED,))
    if request.user.name == "system:kube-controller-manager":
        # of token secrets, as upstream; the others act as service accounts
        return User(request.user.name, groups=(AUTHENTICATED,))
    controller = request.user.name.removeprefix("system:serviceaccount:kube-system:")
    assert controller in CONTROLLER_ROLES or controller in ("bootstrap-signer", "token-cleaner")
    groups = ("system:serviceaccounts", "system:serviceaccounts:kube-system", AUTHENTICATED)
    return User(f"system:serviceaccount:kube-system:{controller}", groups=groups)


def test_loop_13_each_list_watch_and_write_of_a_component_is_sent_by_its_user_with_its_groups():
    seen: set[tuple[str, str]] = set()

    def users_are_as_upstream(before: Cluster, after: Cluster) -> list[str]:
        found = []
        for (machine, _, _), flying in after.flying.items():
            request = flying.request
            seen.add((machine.partition("/")[0], request.verb))
            if request.user != expected_user(machine, request):
                found.append(f"{machine} sends {request.verb} as {request.user}")
        return found

    cluster = scenario.new_cluster(len(NODES), b"seed")
    web = codec.from_tree(Deployment, scenario.deployment("web", 2))
    cluster = step(cluster, Submit(scenario.creation(web)))
    cluster = settle(cluster, users_are_as_upstream, seconds_max=30)
    assert cluster.history.list(f"{PODS.prefix}default/").records
    components = ("kubelet", "proxy", "dns", "kube-scheduler", "kube-controller-manager")
    assert {(one, verb) for one in components for verb in ("list", "watch")} <= seen
    assert {("kubelet", "patch"), ("kube-scheduler", "create")} <= seen, seen
