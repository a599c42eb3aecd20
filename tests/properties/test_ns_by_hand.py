"""What the namespace controller asks, deletes and reports, beside a plain reading: NS-1 to NS-6,
SA-1, SA-2, GC-1 to GC-9.

(spec/workloads/namespace.md, service_account.md, garbage_collector.md)
"""

from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import replace
from workload_helpers import NOW, ago, reference_to, sent, view_of

from refk8s.core.api.core_v1 import (
    ConfigMap,
    Namespace,
    NamespaceCondition,
    NamespaceSpec,
    Node,
    Pod,
    ServiceAccount,
)
from refk8s.core.api.meta_v1 import ListMeta, ObjectMeta, OwnerReference
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import (
    CONFIG_MAPS,
    NAMESPACES,
    NODES,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
)
from refk8s.core.api.user import ADMIN
from refk8s.core.context import MILLISECOND, SECOND, timestamp
from refk8s.core.controllers.garbage_collector import (
    FOREGROUND,
    ORPHAN,
    REMEMBERED_MAX,
    GarbageCollector,
    fold_graph,
)
from refk8s.core.controllers.namespace import AGAIN, CONTENT, NamespaceController, Remaining, Survey
from refk8s.core.controllers.service_account import (
    CERTIFICATE_KEY,
    ROOT_CERTIFICATE,
    RootCertificatePublisher,
    ServiceAccountController,
)
from refk8s.core.loop.plan import NOTHING, Local

NS = NamespaceController()
KINDS = (CONFIG_MAPS, PODS, SECRETS)


def namespace(finalizers=("kubernetes",), conditions=None, dying=True):
    metadata = ObjectMeta(
        name="doomed", uid="u", resource_version="5", deletion_timestamp=ago(9) if dying else None
    )
    made = Namespace(metadata=metadata, spec=NamespaceSpec(finalizers=finalizers))
    return replace(made, status=replace(made.status, conditions=conditions))


rests = st.builds(
    lambda count, marked, finalizers: Remaining(
        count, max(count - marked, 0), tuple(sorted(finalizers.items())) if count else ()
    ),
    st.integers(0, 3),
    st.integers(0, 3),
    st.dictionaries(st.sampled_from(["a/x", "b/y"]), st.integers(1, 3)),
)
conditions_before = st.none() | st.lists(
    st.builds(
        lambda type, status: NamespaceCondition(
            type=type, status=status, reason="r", message="m", last_transition_time=ago(50)
        ),
        st.sampled_from(
            [
                "NamespaceContentRemaining",
                "NamespaceFinalizersRemaining",
                "NamespaceDeletionContentFailure",
                "Other",
            ]
        ),
        st.sampled_from(["True", "False"]),
    ),
    max_size=3,
    unique_by=lambda condition: condition.type,
).map(tuple)


def survey(found):
    return Survey(
        "u",
        Map({resource.prefix: found.get(resource, Remaining(0, 0, ())) for resource in CONTENT}),
    )


def listed(items=(), revision=7):
    return Response(
        200, SimpleNamespace(items=items, metadata=ListMeta(resource_version=str(revision)))
    )


@settings(max_examples=3 * settings.default.max_examples)
@given(
    st.fixed_dictionaries(dict.fromkeys(KINDS, rests)),
    conditions_before,
    st.sampled_from([("kubernetes",), ("x/y", "kubernetes")]),
)
def test_ns_2_ns_3_ns_4_ns_5_one_turn_of_a_namespace_that_ends(found, before, finalizers):
    """`found` is what the lists have said remains."""
    obj = namespace(finalizers, before)
    plan = NS.reconcile(
        view_of(NS, obj), "doomed", NOW, Local(Map({"doomed": survey(found), "else": survey({})}))
    )
    remaining = [kind for kind in CONTENT if kind in found and found[kind].count]
    first = [kind for kind in remaining if kind == PODS] or remaining
    doomed = [kind for kind in first if found[kind].unmarked]
    deletions = [
        request for wave in plan.waves for request in wave if request.verb == "deletecollection"
    ]
    assert [(request.resource, request.namespace) for request in deletions] == [
        (kind, "doomed") for kind in doomed
    ]
    assert list(plan.memory) == ["else"], "the next look asks anew"
    assert plan.wake_at == ((NOW if doomed else NOW + AGAIN) if remaining else None)

    if doomed:
        assert not sent(plan, "update", NAMESPACES, "status"), "the next round counts what is left"
        memory = Map({"doomed": survey(found), "else": survey({})})
        plan = NS.reconcile(view_of(NS, obj), "doomed", NOW, Local(memory, failures=1))

    held = {}
    for kind in remaining:
        for name, count in found[kind].finalizers:
            held[name] = held.get(name, 0) + count
    resources = ", ".join(
        f"{kind.plural}.{kind.group} has {found[kind].count} resource instances"
        for kind in remaining
    )
    who = ", ".join(f"{name} in {held[name]} resource instances" for name in sorted(held))
    wanted = [
        (
            "NamespaceDeletionDiscoveryFailure",
            "False",
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            "False",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        (
            "NamespaceDeletionContentFailure",
            "False",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        (
            "NamespaceContentRemaining",
            "True",
            "SomeResourcesRemain",
            f"Some resources are remaining: {resources}",
        )
        if remaining
        else (
            "NamespaceContentRemaining",
            "False",
            "ContentRemoved",
            "All content successfully removed",
        ),
        (
            "NamespaceFinalizersRemaining",
            "True",
            "SomeFinalizersRemain",
            f"Some content in the namespace has finalizers remaining: {who}",
        )
        if held
        else (
            "NamespaceFinalizersRemaining",
            "False",
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        ),
    ]
    [report] = sent(plan, "update", NAMESPACES, "status")
    assert (report.namespace, report.name, report.body.metadata) == ("", "doomed", obj.metadata)
    assert (report in plan.last) == bool(remaining), (
        "with something left it is told in any case, else before the end"
    )
    told = {condition.type: condition for condition in report.body.status.conditions}
    known = {condition.type: condition for condition in before or ()}
    assert [
        (c.type, c.status, c.reason, c.message)
        for c in report.body.status.conditions
        if c.type != "Other"
    ] == wanted
    assert told.get("Other") == known.get("Other")
    for type, status, *_ in wanted:
        kept = type in known and known[type].status == status
        assert told[type].last_transition_time == (ago(50) if kept else timestamp(NOW))
    silent = NS.reconcile(
        view_of(NS, report.body),
        "doomed",
        NOW + SECOND,
        Local(Map({"doomed": survey(found)}), failures=1),
    )
    assert not sent(silent, "update", NAMESPACES, "status"), (
        "what stands already is not written again"
    )

    finals = sent(plan, "update", NAMESPACES, "finalize")
    if remaining:
        assert not finals
        return
    [final] = finals
    assert plan.waves[-1] == (final,) and (final.namespace, final.name) == ("", "doomed")
    assert (final.body.metadata.resource_version, final.body.metadata.uid) == (None, "u")
    assert final.body.spec.finalizers == (("x/y",) if len(finalizers) == 2 else None)


@given(
    st.lists(
        st.tuples(
            st.booleans(), st.lists(st.sampled_from(["a/x", "b/y"]), max_size=2, unique=True)
        ),
        max_size=4,
    )
)
def test_ns_2_a_list_is_counted_whole(items):
    """Each item is (is it being deleted, its finalizers)."""
    told = [
        SimpleNamespace(
            metadata=ObjectMeta(
                deletion_timestamp=ago(1) if marked else None, finalizers=tuple(f) or None
            )
        )
        for marked, f in items
    ]
    question = Request("list", SECRETS, "doomed", user=ADMIN)
    memory = Map({"doomed": Survey("u")})
    memory, keys = NS.answered(memory, "doomed", question, listed(told), NOW)
    rest = memory["doomed"].found[SECRETS.prefix]
    assert (rest.count, rest.unmarked) == (len(items), sum(1 for marked, _ in items if not marked))
    names = sorted({name for _, finalizers in items for name in finalizers})
    assert rest.finalizers == tuple(
        (name, sum(1 for _, finalizers in items if name in finalizers)) for name in names
    )
    assert tuple(keys) == (), "the others have not answered yet"
    assert NS.answered(Map(), "doomed", question, Response(200, None), NOW) == (Map(), ())
    missing = survey({})
    missing = Survey("u", missing.found.delete(SECRETS.prefix))
    assert NS.answered(Map({"doomed": missing}), "doomed", question, listed(told), NOW)[1] == (
        "doomed",
    )


@given(
    st.integers(0, 30),
    st.sampled_from([None, 403, 500]),
    st.integers(4, 6),
    st.sampled_from(["u", "v"]),
)
def test_ns_6_a_round_that_failed_is_followed_by_another_ever_later(tries, code, revision, uid):
    """So many rounds have failed before; the namespace was seen at revision 5, or was another one
    then."""
    question = Request("list", SECRETS, "doomed", user=ADMIN)
    memory = Map({"doomed": Survey(uid, since=5, tries=tries)})
    late, keys = NS.answered(memory, "doomed", question, listed(revision=revision), NOW)
    assert (SECRETS.prefix in late["doomed"].found) == (revision >= 5) and not keys
    memory, keys = NS.answered(
        memory, "doomed", question, None if code is None else Response(code, None), NOW
    )
    assert tuple(keys) == ("doomed",)
    again_at = NOW + min(5 * MILLISECOND * 2**tries, 30 * SECOND)
    assert memory["doomed"].again_at == again_at
    assert NS.answered(memory, "doomed", question, None, NOW) == (memory, ())
    assert NS.answered(memory, "doomed", question, listed(), NOW) == (memory, ())
    view = view_of(NS, namespace())
    if uid == "u":
        waiting = NS.reconcile(view, "doomed", again_at - 1, Local(memory))
        assert not waiting.queries and waiting.wake_at == again_at
    next_round = NS.reconcile(view, "doomed", again_at, Local(memory))
    assert len(next_round.queries) == len(CONTENT)
    begun = next_round.memory["doomed"]
    assert (begun.uid, begun.since, begun.tries, begun.again_at) == (
        "u",
        5,
        tries + 1 if uid == "u" else 0,
        None,
    )


@given(st.sampled_from(["new", "asked", "failed", "another", "open", "released", "gone"]))
def test_ns_1_ns_2_when_it_asks_and_when_it_waits(state):
    obj = namespace(None if state == "released" else ("kubernetes",), dying=state != "open")
    asked = Survey("v" if state == "another" else "u", again_at=NOW if state == "failed" else None)
    surveys = Map() if state == "new" else Map({"doomed": asked})
    plan = NS.reconcile(
        view_of(NS) if state == "gone" else view_of(NS, obj), "doomed", NOW, Local(surveys)
    )
    if state in ("open", "released", "gone"):
        assert list(plan.memory) == [] and not plan.queries and plan.wake_at is None
        plan = NS.reconcile(
            view_of(NS) if state == "gone" else view_of(NS, obj), "doomed", NOW, Local(Map())
        )
        assert plan == NOTHING
    elif state == "asked":
        assert not plan.queries and plan.wake_at == NOW + 30 * SECOND and not plan.waves
    else:
        assert {(ask.verb, ask.namespace) for ask in plan.queries} == {("list", "doomed")}
        assert [ask.resource for ask in plan.queries] == list(CONTENT) and all(
            ask.because for ask in plan.queries
        )
        assert plan.memory["doomed"].uid == "u" and not len(plan.memory["doomed"].found)
        assert plan.wake_at == NOW + 30 * SECOND


@given(st.booleans(), st.booleans())
def test_ns_4_what_goes_from_a_namespace_that_ends_is_news_to_it(dying, goes):
    keys_of = next(interest.keys for interest in NS.interests if interest.resource is SECRETS)
    view = view_of(NS, namespace(dying=dying))
    obj = ConfigMap(metadata=ObjectMeta(name="a", namespace="doomed"))
    assert tuple(keys_of(view, obj, None if goes else obj)) == (
        ("doomed",) if dying and goes else ()
    )
    assert tuple(keys_of(view, None, obj)) == ()
    elsewhere = replace(obj, metadata=replace(obj.metadata, namespace="elsewhere"))
    assert tuple(keys_of(view, elsewhere, None)) == ()


# --- what every namespace is given ----------------------------------------------------------------


@given(st.sampled_from(["open", "dying", "absent"]), st.booleans())
def test_sa_1_an_account_for_every_namespace_that_is_open_and_has_none(state, has_one):
    controller = ServiceAccountController()
    objects = [] if state == "absent" else [namespace(dying=state == "dying")]
    objects += (
        [ServiceAccount(metadata=ObjectMeta(name="default", namespace="doomed"))] if has_one else []
    )
    plan = controller.reconcile(view_of(controller, *objects), "doomed", NOW, Local())
    requests = sent(plan, "create")
    assert len(requests) == (state == "open" and not has_one)
    for request in requests:
        assert (request.resource, request.namespace, request.name) == (
            SERVICE_ACCOUNTS,
            "doomed",
            "default",
        )
        assert request.body == ServiceAccount(
            metadata=ObjectMeta(name="default", namespace="doomed")
        )
        assert request.because


@given(
    st.sampled_from(["open", "dying", "absent"]),
    st.sampled_from([None, "good", "forged", "more", "bytes"]),
)
def test_sa_2_the_certificate_in_every_namespace_that_is_open(state, published):
    controller = RootCertificatePublisher("CERT")
    objects = [] if state == "absent" else [namespace(dying=state == "dying")]
    data = {
        "good": {"ca.crt": "CERT"},
        "forged": {"ca.crt": "x"},
        "more": {"ca.crt": "CERT", "y": ""},
        "bytes": {"ca.crt": "x"},
    }
    if published is not None:
        metadata = ObjectMeta(name="kube-root-ca.crt", namespace="doomed", uid="c")
        objects.append(
            ConfigMap(
                metadata=metadata,
                data=data[published],
                binary_data={"b": "AA=="} if published == "bytes" else None,
            )
        )
    plan = controller.reconcile(view_of(controller, *objects), "doomed", NOW, Local())
    if state != "open" or published == "good":
        assert plan == NOTHING
        return
    [request] = [request for wave in plan.waves for request in wave]
    assert (request.resource, request.namespace, request.name) == (
        CONFIG_MAPS,
        "doomed",
        ROOT_CERTIFICATE,
    )
    assert (request.verb, request.body.data) == (
        "create" if published is None else "update",
        {CERTIFICATE_KEY: "CERT"},
    )
    assert request.body.binary_data is None and request.because
    assert (request.body.metadata.name, request.body.metadata.namespace) == (
        ROOT_CERTIFICATE,
        "doomed",
    )
    assert published is not None or list(request.body.metadata.annotations) == [
        "kubernetes.io/description"
    ]


@given(st.sampled_from(["default", "other"]), st.booleans(), st.booleans())
def test_sa_1_sa_2_only_their_own_objects_are_news(name, before, after):
    for controller, resource, own in (
        (ServiceAccountController(), SERVICE_ACCOUNTS, "default"),
        (RootCertificatePublisher("CERT"), CONFIG_MAPS, ROOT_CERTIFICATE),
    ):
        obj = ConfigMap(
            metadata=ObjectMeta(name=own if name == "default" else name, namespace="doomed")
        )
        keys_of = next(
            interest.keys for interest in controller.interests if interest.resource is resource
        )
        if before or after:
            keys = keys_of(view_of(controller), obj if before else None, obj if after else None)
            assert tuple(keys) == (("doomed",) if name == "default" else ())


# --- the picture of the garbage collector ---------------------------------------------------------

steps = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.none()
        | st.tuples(
            st.integers(1, 2), st.lists(st.sampled_from(["a1", "b1", "c2", "x"]), max_size=2)
        ),
    ),
    max_size=12,
)


@settings(max_examples=3 * settings.default.max_examples)
@given(steps)
def test_gc_4_the_picture_of_who_owns_whom_is_that_of_the_objects_there_are(drawn):
    """Each step makes an object anew (its life, its owners) or takes it away; a name may come back
    with another uid."""
    collector = GarbageCollector()
    graph, there = collector.folds[0].initial, {}
    for name, state in drawn:
        old = there.get(name)
        new = None
        if state is not None:
            life, owners = state
            references = tuple(
                OwnerReference(api_version="v1", kind="ConfigMap", name=uid[0], uid=uid)
                for uid in owners
            )
            new = ConfigMap(
                metadata=ObjectMeta(
                    name=name,
                    namespace="ns",
                    uid=f"{name}{life}",
                    owner_references=references or None,
                )
            )
        if old is None and new is None:
            continue
        graph = fold_graph(graph, CONFIG_MAPS, old, new)
        if new is None:
            del there[name]
        else:
            there[name] = new
        assert dict(graph.objects) == {
            obj.metadata.uid: (CONFIG_MAPS, f"ns/{name}") for name, obj in there.items()
        }
        owned: dict[str, set[str]] = {}
        for obj in there.values():
            for reference in obj.metadata.owner_references or ():
                owned.setdefault(reference.uid, set()).add(obj.metadata.uid)
        assert {uid: set(graph.dependents[uid]) for uid in graph.dependents} == owned


references = st.builds(
    lambda name, controller, blocks: OwnerReference(
        api_version="v1",
        kind="ConfigMap",
        name=name,
        uid=f"uid-{name}",
        controller=controller,
        block_owner_deletion=blocks,
    ),
    st.sampled_from(["here", "waiting", "stays"]),
    st.none() | st.booleans(),
    st.none() | st.booleans(),
)


@given(
    st.lists(references, min_size=1, max_size=3, unique_by=lambda reference: reference.name),
    st.sampled_from(["", "ns"]),
)
def test_gc_1_gc_3_what_is_taken_off_and_what_stays(drawn, place):
    """`waiting` waits for its dependents, the others are there; of a namespace or, for nodes, of
    none."""
    collector = GarbageCollector()

    def owner(name, **more):
        return Node(metadata=ObjectMeta(name=name, uid=f"uid-{name}", **more))

    drawn = [replace(reference, kind="Node") for reference in drawn]
    kind = Pod if place else Node
    child = kind(
        metadata=ObjectMeta(
            name="c",
            namespace=place or None,
            uid="uid-c",
            resource_version="7",
            owner_references=tuple(drawn),
        )
    )
    objects = [
        owner("here"),
        owner("stays"),
        owner("waiting", deletion_timestamp=ago(1), finalizers=(FOREGROUND,)),
    ]
    plan = collector.reconcile(view_of(collector, child, *objects), "uid-c", NOW, Local(Map()))
    kept = [reference for reference in drawn if reference.name != "waiting"]
    where = (PODS if place else NODES, place, "c")
    if not kept:
        [request] = sent(plan, "delete")
        assert (request.resource, request.namespace, request.name) == where
        assert (request.body.preconditions.uid, request.body.preconditions.resource_version) == (
            "uid-c",
            "7",
        )
        assert request.body.propagation_policy == "Background" and request.because
    elif len(kept) == len(drawn):
        assert not plan.waves
    else:
        [request] = sent(plan, "patch")
        assert (request.resource, request.namespace, request.name) == where and request.because
        names = {"api_version": "apiVersion", "block_owner_deletion": "blockOwnerDeletion"}
        tree = [
            {
                names.get(f, f): getattr(r, f)
                for f in r.__struct_fields__
                if getattr(r, f) is not None and f != "because"
            }
            for r in kept
        ]
        assert request.body.document == {
            "metadata": {"uid": "uid-c", "resourceVersion": "7", "ownerReferences": tree}
        }


@given(
    st.sampled_from([FOREGROUND, ORPHAN]),
    st.lists(st.sampled_from(["x/y", "z/z"]), max_size=2, unique=True),
)
def test_gc_5_gc_7_the_own_finalizer_goes_and_others_stay(own, others):
    collector = GarbageCollector()
    metadata = ObjectMeta(
        name="c",
        namespace="ns",
        uid="uid-c",
        resource_version="7",
        deletion_timestamp=ago(1),
        finalizers=(own, *others),
    )
    plan = collector.reconcile(
        view_of(collector, ConfigMap(metadata=metadata)), "uid-c", NOW, Local(Map())
    )
    [request] = sent(plan, "patch")
    assert request.body.document == {
        "metadata": {"uid": "uid-c", "resourceVersion": "7", "finalizers": others or None}
    }
    assert (request.resource, request.namespace, request.name) == (
        CONFIG_MAPS,
        "ns",
        "c",
    ) and request.because


@given(st.sampled_from(["ConfigMap", "Node", "Odd"]), st.booleans())
def test_gc_2_gc_9_where_an_owner_is_looked_for(kind, namespaced):
    collector = GarbageCollector()
    reference = OwnerReference(api_version="v1", kind=kind, name="o", uid="uid-o")
    child = (ConfigMap if namespaced else Node)(
        metadata=ObjectMeta(
            name="c",
            namespace="ns" if namespaced else None,
            uid="uid-c",
            owner_references=(reference,),
        )
    )
    plan = collector.reconcile(view_of(collector, child), "uid-c", NOW, Local(Map()))
    assert not plan.waves
    if kind == "Odd" or (kind == "ConfigMap" and not namespaced):
        assert not plan.queries
        return
    [ask] = plan.queries
    expected = (NODES, "", "o") if kind == "Node" else (CONFIG_MAPS, "ns", "o")
    assert (ask.verb, (ask.resource, ask.namespace, ask.name), bool(ask.because)) == (
        "get",
        expected,
        True,
    )
    assert plan.wake_at == NOW + SECOND


changes = st.sampled_from(["owners", "finalizers", "marked", "labels", "uid", "gone", "comes"])


@given(changes, st.booleans(), st.booleans(), st.sampled_from(["there", "absent", "going"]))
def test_gc_4_who_is_looked_at_after_a_change(what, owned, marked, owner_is):
    """The object, its owners (they may wait for it), and its dependents once it is going or
    gone. A new object whose owner is there has nothing to be looked at."""
    collector = GarbageCollector()
    keys_of = collector.interests[0].keys
    since = ago(1) if owner_is == "going" else None
    owner = ConfigMap(
        metadata=ObjectMeta(name="o", namespace="ns", uid="uid-o", deletion_timestamp=since)
    )
    before = ConfigMap(
        metadata=ObjectMeta(
            name="c",
            namespace="ns",
            uid="uid-c",
            owner_references=(reference_to(owner),) if owned else None,
            deletion_timestamp=ago(1) if marked else None,
            finalizers=("x/y",),
        )
    )
    child = ConfigMap(
        metadata=ObjectMeta(
            name="d", namespace="ns", uid="uid-d", owner_references=(reference_to(before),)
        )
    )
    other = reference_to(replace(owner, metadata=replace(owner.metadata, uid="uid-p")))
    part = {
        "owners": {"owner_references": (other,)},
        "finalizers": {"finalizers": ("z/z",)},
        "marked": {"deletion_timestamp": ago(0)},
        "labels": {"labels": {"a": "b"}},
        "uid": {"uid": "uid-new"},
    }.get(what, {})
    after = None if what == "gone" else replace(before, metadata=replace(before.metadata, **part))
    old = None if what == "comes" else before
    others = [child] if owner_is == "absent" else [owner, child]
    view = view_of(collector, *others, *([after] if after is not None else []))
    found = set(keys_of(view, old, after))
    owners = {"uid-o"} if owned else set()
    if what == "gone":
        assert found == owners | {"uid-d"}
    elif what == "uid":
        assert found == owners | {"uid-d"} | ({"uid-new"} if owned or marked else set()), (
            "another object of that name is news"
        )
    elif what == "labels":
        assert found == set()
    elif what == "comes":
        # Its dependents are looked at in any case: one of another namespace names an owner that it
        # cannot have (GC-11).
        is_news = marked or (owned and owner_is != "there")
        assert found == ({"uid-c"} if is_news else set()) | {"uid-d"} | (
            owners if marked else set()
        )
    elif what == "owners":
        assert found == {"uid-c"} | owners
    elif what == "finalizers":
        assert found == ({"uid-c"} if owned or marked else set())
    else:
        assert found == {"uid-c"} | (set() if marked else owners | {"uid-d"})


# --- owners that go -------------------------------------------------------------------------------

ends = st.sampled_from(["stays", "background", "foreground", "orphan", "foreground not yet"])


def going(name, how, **more):
    finalizers = {
        "foreground": (FOREGROUND,),
        "orphan": (ORPHAN,),
        "background": ("x/y",),
        "foreground not yet": (FOREGROUND,),
    }.get(how)
    dying = how in ("background", "foreground", "orphan")
    metadata = ObjectMeta(
        name=name,
        namespace="ns",
        uid=f"uid-{name}",
        finalizers=finalizers,
        deletion_timestamp=ago(1) if dying else None,
    )
    return ConfigMap(metadata=replace(metadata, **more))


@given(ends, ends, st.booleans())
def test_gc_1_gc_4_gc_6_an_owner_counts_until_it_waits_for_its_dependents(
    one, other, has_dependents
):
    """Only an owner in foreground deletion lets its dependents go before it."""
    collector = GarbageCollector()
    owners = [going("one", one), going("other", other)]
    child = going(
        "child",
        "stays",
        owner_references=tuple(reference_to(owner) for owner in owners),
        resource_version="7",
    )
    grandchild = (
        [going("grandchild", "stays", owner_references=(reference_to(child),))]
        if has_dependents
        else []
    )
    plan = collector.reconcile(
        view_of(collector, *owners, child, *grandchild), "uid-child", NOW, Local(Map())
    )
    waiting = [
        owner for owner, how in zip(owners, (one, other), strict=True) if how == "foreground"
    ]
    if len(waiting) == 2:
        [request] = sent(plan, "delete")
        assert request.body.propagation_policy == ("Foreground" if has_dependents else "Background")
    elif waiting:
        [request] = sent(plan, "patch")
        [kept] = request.body.document["metadata"]["ownerReferences"]
        assert kept["uid"] not in [owner.metadata.uid for owner in waiting]
    else:
        assert not plan.waves and not plan.queries


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["mine", "another's", "both"]),
            st.booleans(),
            st.booleans(),
            st.booleans(),
        ),
        max_size=4,
    )
)
def test_gc_5_who_is_waited_for_and_who_is_looked_at(drawn):
    """Each dependent: (whose it is, does it block this owner, does it block the other, is it being
    deleted)."""
    collector = GarbageCollector()
    owner, other = going("owner", "foreground"), going("other", "stays")
    dependents = []
    for number, (whose, blocks, blocks_other, dying) in enumerate(drawn):
        references = []
        if whose != "another's":
            references.append(replace(reference_to(owner), block_owner_deletion=blocks or None))
        if whose != "mine":
            references.append(
                replace(reference_to(other), block_owner_deletion=blocks_other or None)
            )
        dependents.append(
            going(
                f"d{number}", "background" if dying else "stays", owner_references=tuple(references)
            )
        )
    plan = collector.reconcile(
        view_of(collector, owner, other, *dependents), "uid-owner", NOW, Local(Map())
    )
    mine = [(number, *one) for number, one in enumerate(drawn) if one[0] != "another's"]
    if any(blocks for _, _, blocks, _, _ in mine):
        assert not plan.waves
        assert sorted(plan.enqueue) == [
            (collector.name, f"uid-d{number}") for number, _, _, _, dying in mine if not dying
        ]
    else:
        [request] = sent(plan, "patch")
        assert request.body.document["metadata"]["finalizers"] is None


@given(st.sampled_from([None, FOREGROUND, ORPHAN]))
def test_gc_8_the_own_finalizers_of_what_is_collected_decide(finalizer):
    collector = GarbageCollector()
    owner = going("owner", "foreground")
    child = going(
        "child",
        "stays",
        owner_references=(reference_to(owner),),
        finalizers=(finalizer,) if finalizer else ("x/y",),
    )
    [request] = sent(
        collector.reconcile(view_of(collector, owner, child), "uid-child", NOW, Local(Map())),
        "delete",
    )
    assert (
        request.body.propagation_policy
        == {None: "Background", FOREGROUND: "Foreground", ORPHAN: "Orphan"}[finalizer]
    )


def test_gc_2_what_was_found_though_not_shown_is_forgotten_when_it_is_shown():
    collector = GarbageCollector()
    owner, other = going("owner", "stays"), going("other", "stays")
    child = going("child", "stays", owner_references=(reference_to(owner), reference_to(other)))
    memory = Map()
    for ask in collector.reconcile(
        view_of(collector, child), "uid-child", NOW, Local(memory)
    ).queries:
        found = owner if ask.name == "owner" else other
        memory, keys = collector.answered(memory, "uid-child", ask, Response(200, found), NOW)
        assert tuple(keys) == ("uid-child",)
    assert len(memory) == 2
    hidden = collector.reconcile(view_of(collector, child), "uid-child", NOW, Local(memory))
    assert not hidden.waves and not hidden.queries
    plan = collector.reconcile(
        view_of(collector, child, owner, other), "uid-child", NOW, Local(memory)
    )
    assert not plan.waves and plan.memory == Map()


def test_gc_2_what_is_remembered_is_bounded():
    collector = GarbageCollector()
    child = going("child", "stays", owner_references=(reference_to(going("owner", "stays")),))
    [ask] = collector.reconcile(view_of(collector, child), "uid-child", NOW, Local(Map())).queries
    full = Map({str(number): False for number in range(REMEMBERED_MAX)})
    for memory, size in ((full, 1), (full.delete("0"), REMEMBERED_MAX)):
        for response in (Response(404, None), Response(200, child)):
            assert len(collector.answered(memory, "uid-child", ask, response, NOW)[0]) == size
