"""Requests under PodSecurity from plain values: what is checked, exempt and annotated
(spec/pod_security.md, PSA-2, PSA-4, PSA-5, PSA-6, PSA-8)."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from test_psa import PREFIX, a_container, a_pod

from refk8s.core.api import codec, resources
from refk8s.core.api.core_v1 import Namespace
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.admission.outcome import (
    AdmissionConfig,
    LevelVersion,
    PodSecurityConfig,
    SecurityPolicy,
)
from refk8s.core.apiserver.admission.pod_security.baseline import SECCOMP_CONTAINER, SECCOMP_POD
from refk8s.core.apiserver.admission.pod_security.enforce import _is_significant, check
from refk8s.core.apiserver.config import Config
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.context import Context, SeededChance
from refk8s.core.store import EMPTY, Put, Txn, commit

CONTEXT = Context(0, SeededChance(b"seed"))
PODS, NAMESPACES, DEPLOYMENTS = resources.PODS, resources.NAMESPACES, resources.DEPLOYMENTS
BASELINE = SecurityPolicy(*[LevelVersion("baseline")] * 3)
WORDS = 'violate PodSecurity "baseline:latest": host namespaces (hostPID=true)'


def made(resource: Any, tree: dict[str, Any]) -> Any:
    return codec.decode_tolerant(resource.type, tree)[0]


def namespace(**labels: str) -> Namespace:
    found = {PREFIX + mode.replace("_", "-"): value for mode, value in labels.items()}
    return Namespace(metadata=ObjectMeta(name="default", labels=found or None))


def stored(*objects: tuple[Any, Any]) -> Any:
    history = EMPTY
    for resource, obj in objects:
        key = resource.key(obj.metadata.namespace or "", obj.metadata.name)
        history = commit(history, Txn((), (Put(key, obj),)))[0]
    return history


def asked(resource: Any, subresource: str = "", store: Any = EMPTY, **config: Any) -> Exchange:
    """A request of the administrator, with this configuration of PodSecurity."""
    where = "default" if resource.namespaced else ""
    request = Request("update", resource, where, "default", subresource, user=ADMIN)
    security = PodSecurityConfig(**config)
    admission = AdmissionConfig(pod_security=security)
    return Exchange(request, store, CONTEXT, Config(admission=admission))


def judged(exchange: Exchange, new: Any, old: Any = None) -> Any:
    """(warnings, annotations), or the message of the rejection instead of warnings."""
    try:
        found: Any = check(exchange, new, old)
    except ApiError as refused:
        found = refused.status.message
    notes = exchange.notes.annotations
    return found, {key.removeprefix(PREFIX): text for key, text in notes.items()}


BAD = made(PODS, a_pod("p", hostPID=True))
TEMPLATED = made(
    DEPLOYMENTS, {"metadata": {"name": "d"}, "spec": {"template": {"spec": {"hostPID": True}}}}
)
REFUSED = f'pods "p" is forbidden: {WORDS.replace("violate", "violates")}'


@pytest.mark.parametrize(
    ("resource", "subresource", "new", "expected"),
    [
        (PODS, "", BAD, REFUSED),
        (PODS, "ephemeralcontainers", BAD, REFUSED),
        (PODS, "resize", BAD, REFUSED),
        (PODS, "status", BAD, ()),
        (PODS, "eviction", BAD, ()),
        (DEPLOYMENTS, "", TEMPLATED, (f"would {WORDS}",)),
        (DEPLOYMENTS, "status", TEMPLATED, ()),
        (resources.CONFIG_MAPS, "", made(resources.CONFIG_MAPS, {"metadata": {"name": "c"}}), ()),
    ],
)
def test_psa_4_psa_5_which_requests_are_checked(resource, subresource, new, expected):
    """Also in a namespace that is not stored, where the defaults of the cluster count."""
    found, annotations = judged(asked(resource, subresource, defaults=BASELINE), new)
    assert found == expected
    expected_keys = {"audit-violations"} if expected else set()
    expected_keys |= {"enforce-policy"} if expected == REFUSED else set()
    assert annotations.keys() == expected_keys


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"namespaces": frozenset(["default"])}, "namespace"),
        ({"users": frozenset([ADMIN.name])}, "user"),
        ({"runtime_classes": frozenset(["kata"])}, "runtimeClass"),
        ({"runtime_classes": frozenset(["runc"])}, None),
    ],
)
def test_psa_5_psa_8_what_is_exempt_and_why(config, why):
    pod = replace(BAD, spec=replace(BAD.spec, runtime_class_name="kata"))
    exchange = asked(PODS, defaults=BASELINE, **config)
    expected = ((), {"exempt": why})
    assert (judged(exchange, pod) == expected) == (why is not None)


@pytest.mark.parametrize("labels", [{}, {"enforce": "privileged"}, {"warn_version": "v1.20"}])
def test_psa_8_d_204_where_nothing_can_be_violated_nothing_is_annotated(labels):
    store = stored((NAMESPACES, namespace(**labels)))
    assert judged(asked(PODS, store=store), BAD) == ((), {})
    exempt = asked(PODS, store=store, users=frozenset([ADMIN.name]))
    assert judged(exempt, BAD) == ((), {"exempt": "user"} if labels else {})


# --- updates of pods

annotations = st.fixed_dictionaries(
    {},
    optional={
        key: st.sampled_from(["", "unconfined"])
        for key in (SECCOMP_POD, SECCOMP_CONTAINER + "c0", SECCOMP_CONTAINER + "i0", "other")
    },
)
image = st.sampled_from(["i:1", "i:2"])
images = st.lists(image, max_size=2)
drawn_pods = st.tuples(annotations, st.lists(image, min_size=1, max_size=2), images, images)


def a_drawn_pod(drawn: Any) -> Any:
    notes, *lists = drawn
    parts: dict[str, Any] = {}
    for place, letter, texts in zip(
        ("containers", "initContainers", "ephemeralContainers"), "cie", lists, strict=True
    ):
        parts[place] = [
            {**a_container(f"{letter}{number}"), "image": text} for number, text in enumerate(texts)
        ]
    pod = made(PODS, {"metadata": {"name": "p", "annotations": notes}, "spec": parts})
    assert len(pod.spec.containers) == len(lists[0])
    return pod


def plain_significant(new: Any, old: Any) -> bool:
    """PSA-4: another image or seccomp annotation of a container, another number of containers, an
    ephemeral container more."""
    (notes, *lists), (old_notes, *old_lists) = new, old
    if any(len(mine) != len(theirs) for mine, theirs in zip(lists[:2], old_lists[:2], strict=True)):
        return True
    if len(lists[2]) > len(old_lists[2]):
        return True
    keys = [SECCOMP_POD]
    for letter, mine, theirs in zip("cie", lists, old_lists, strict=True):
        if any(one != other for one, other in zip(mine, theirs, strict=False)):
            return True
        keys += [f"{SECCOMP_CONTAINER}{letter}{number}" for number, _ in enumerate(mine)]
    return any(notes.get(key, "") != old_notes.get(key, "") for key in keys)


NOTED = {SECCOMP_POD: "unconfined"}


@given(drawn_pods, drawn_pods, st.sampled_from([(), (0,), (1, 2, 3), (0, 1, 2), (1, 2), (3,)]))
@example(({**NOTED, "other": ""}, ["i:1"], [], []), (NOTED, ["i:1"], [], []), ())
def test_psa_4_which_updates_of_a_pod_are_significant(new, old, same):
    new = tuple(old[place] if place in same else part for place, part in enumerate(new))
    pods = a_drawn_pod(new), a_drawn_pod(old)
    if new[1:] == old[1:]:  # as an update of the metadata alone
        pods = replace(pods[0], spec=pods[1].spec), pods[1]
    assert _is_significant(*pods) == plain_significant(new, old)


# --- namespaces


def test_psa_2_invalid_labels_may_stay_while_others_change():
    invalid = {"warn": "strict", "audit_version": "1"}
    exchange = asked(NAMESPACES)
    before = namespace(**invalid)
    assert judged(exchange, namespace(**invalid, enforce="baseline"), before) == ((), {})
    assert judged(exchange, namespace(warn="strict"), before)[0] == (
        'Namespace "default" is invalid: metadata.labels[pod-security.kubernetes.io/warn]: '
        'Invalid value: "strict": must be one of privileged, baseline, restricted'
    )
    assert judged(exchange, namespace(warn="baseline"), before) == ((), {})
    assert "is invalid" in judged(exchange, before)[0]
    # its subresources leave the labels as they are
    assert judged(asked(NAMESPACES, "status"), before, namespace()) == ((), {})


def test_psa_6_exempt_pods_are_not_warned_of():
    pods = []
    for name, kind in (("a", "kata"), ("b", "runc"), ("c", "kata"), ("d", None)):
        metadata = ObjectMeta(name=name, namespace="default")
        spec = replace(BAD.spec, runtime_class_name=kind)
        pods.append((PODS, replace(BAD, metadata=metadata, spec=spec)))
    exchange = asked(NAMESPACES, store=stored(*pods), runtime_classes=frozenset(["kata"]))
    found, _ = judged(exchange, namespace(enforce="baseline"), namespace())
    assert found == (
        'existing pods in namespace "default" violate the new PodSecurity enforce level '
        '"baseline:latest"',
        "b (and 1 other pod): host namespaces",
    )
