"""Writers of one object at the same time: two managers that apply it, a client that updates or
scales it, and a controller that writes its status. Rules APPLY-7, APPLY-12, APPLY-15
(spec/apply.md)."""

from typing import Any

from api_world import World
from hypothesis import example, given
from hypothesis import strategies as st

from refk8s.checking.simulator.apply_user import applied, whole
from refk8s.core.api.codec import encode
from refk8s.core.api.request import Options, Patch, Request
from refk8s.core.api.resources import DEPLOYMENTS
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.handle import handle
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.apiserver.outcome import Commit
from refk8s.core.properties.predicates.apply import (
    apply_7_the_main_path_owns_no_status,
    apply_12_a_changed_value_has_one_owner,
    apply_15_others_keep_their_fields,
    is_applied,
)
from refk8s.core.store import Conflict, commit

MERGE = "application/merge-patch+json"


def patched(manager: str, tree: dict[str, Any], part: str = "") -> Request:
    """A merge patch by a manager."""
    body = Patch(MERGE, encode(tree))
    options = Options(field_manager=manager)
    return Request("patch", DEPLOYMENTS, "default", "web", part, body, options, ADMIN)


sizes, images = st.integers(0, 3), st.sampled_from(["app:1", "app:2"])
managers = st.sampled_from(["team", "platform"])
status_trees = st.fixed_dictionaries({"observedGeneration": sizes, "replicas": sizes})
labels = st.dictionaries(st.sampled_from("xyz"), st.sampled_from("ab"), max_size=2)
parts = st.one_of(
    st.builds(lambda size: {"spec": {"replicas": size}}, sizes),
    st.builds(lambda found: {"metadata": {"labels": found}}, labels),
    st.builds(
        lambda image: {
            "spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}
        },
        images,
    ),
    st.builds(lambda status: {"status": status}, status_trees),
)
wholes = st.builds(
    lambda size, image, status: {
        **whole("web", size, image),
        **({"status": status} if status else {}),
    },
    sizes,
    images,
    st.none() | status_trees,
)
applies = st.builds(
    applied, st.just("web"), managers, wholes | parts, st.sampled_from([False, False, True])
)
others = st.one_of(
    st.builds(lambda size: patched("kubectl-edit", {"spec": {"replicas": size}}), sizes),
    st.builds(lambda size: patched("kubectl", {"spec": {"replicas": size}}, "scale"), sizes),
    st.builds(lambda tree: patched("controller", {"status": tree}, "status"), status_trees),
    st.builds(lambda found: patched("labeller", {"metadata": {"labels": found}}), labels),
)
requests = applies | applies | others
pairs = st.lists(st.tuples(requests, requests), max_size=5)


def judged(world: World, request: Request) -> None:
    """Do the request, and check what came of it."""
    taken = world.do(request)
    for change in taken.changes:
        if (
            change.previous is None
            or change.record is None
            or not is_applied(change.previous.value)
        ):
            continue
        wrong = list(apply_12_a_changed_value_has_one_owner(change))
        if request.body.media_type.startswith("application/apply"):
            wrong += apply_7_the_main_path_owns_no_status(request, change)
            if not request.options.force:
                wrong += apply_15_others_keep_their_fields(request, change)
        assert not wrong, (request, wrong)


@given(pairs)
@example(
    [
        (
            patched("kubectl-edit", {"spec": {"replicas": 3}}),
            applied("web", "team", {"spec": {"replicas": 1}}),
        )
    ]
)
def test_apply_15_an_apply_in_flight_when_ownership_moves_is_decided_again(pairs):
    # Shows APPLY-15.a APPLY-15.b APPLY-12.a.
    world = World()
    assert world.do(applied("web", "team", whole("web", 2, "app:1"))).response.code == 201
    for first, second in pairs:
        late = handle(Exchange(second, world.history, world.context(), world.config))
        before = world.history.get(DEPLOYMENTS.key("default", "web"))
        judged(world, first)
        if isinstance(late, Commit) and late.txn.writes:
            _, result = commit(world.history, late.txn, stamp)
            has_moved = world.history.get(DEPLOYMENTS.key("default", "web")) is not before
            assert isinstance(result, Conflict) == has_moved
        judged(world, second)


def test_apply_7_a_controllers_status_is_not_taken_by_who_applies_what_it_has_read():
    """The second apply of the whole object changes the replicas that the controller reports, and
    conflicts with nobody."""
    world = World()
    world.do(applied("web", "team", whole("web", 2, "app:1")))
    world.do(patched("controller", {"status": {"replicas": 2}}, "status"))
    read = {**whole("web", 2, "app:1"), "status": {"replicas": 1}}
    assert world.do(applied("web", "team", read)).response.code == 200
    assert (
        world.do(patched("controller", {"status": {"replicas": 3}}, "status")).response.code == 200
    )
    assert world.do(applied("web", "platform", {"status": {"replicas": 9}})).response.code == 200
    found = world.get(DEPLOYMENTS, "web")
    assert found.status.replicas == 3
    owners = {
        one.manager for one in found.metadata.managed_fields if b"f:status" in bytes(one.fields_v1)
    }
    assert owners == {"controller"}
