"""Admission plugins that are off by default: ADM-43, ADM-44 (spec/admission.md)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from api_world import World
from custom_world import GROUP, CustomWorld, a_definition, gadgets
from hypothesis import given
from hypothesis import strategies as st

from refk8s.core.api.core_v1 import Container, Pod, PodSpec, ResourceRequirements, Toleration
from refk8s.core.api.user import User
from refk8s.core.apiserver.admission.optional import tolerate
from refk8s.core.apiserver.admission.outcome import AdmissionConfig
from refk8s.core.apiserver.admission.plugins import (
    EXTENDED_RESOURCES,
    OPTIONAL,
    OWNER_REFERENCES,
    UnknownPlugin,
    read_plugins,
)
from refk8s.core.apiserver.authorize.modes import authorizers
from refk8s.core.apiserver.config import Config
from refk8s.core.value import evolve

JSON = {"content-type": "application/json"}
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
GPU, NIC = "example.com/gpu", "example.com/nic"
JANE = User("jane", groups=("system:authenticated",))


def with_plugins(*names: str) -> Config:
    return Config(admission=AdmissionConfig(plugins=frozenset(names)))


def a_pod(*requested: str, tolerations: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    amounts = dict.fromkeys(requested, "1")
    container = {"name": "c", "image": "i", "resources": {"requests": amounts, "limits": amounts}}
    spec = {"containers": [container], "tolerations": list(tolerations)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}


def tolerated(config: Config, pod: dict[str, Any]) -> list[str]:
    reply: Any = World(config=config).http("POST", PODS, pod, JSON)
    assert reply.code == 201, reply.content
    found = json.loads(reply.content)["spec"]["tolerations"]
    return [one["key"] for one in found if one.get("effect") == "NoSchedule"]


def test_adm_43_a_pod_tolerates_the_taints_of_its_devices():
    config = with_plugins(EXTENDED_RESOURCES)
    assert tolerated(config, a_pod(NIC, GPU, "cpu")) == [GPU, NIC]
    assert tolerated(config, a_pod("cpu")) == []
    assert tolerated(Config(), a_pod(GPU)) == []
    own = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}
    assert tolerated(config, a_pod(GPU, tolerations=(own,))) == [GPU]


names = st.sampled_from(["cpu", "memory", "hugepages-2Mi", "requests.x/y", GPU, NIC, "a.b/c"])
containers = st.lists(st.sets(names), min_size=1, max_size=3)


@given(containers, containers, st.lists(st.sampled_from([GPU, NIC, "other"]), max_size=2))
def test_adm_43_the_added_tolerations_are_exactly_those_of_extended_resources(main, init, known):
    def made(sets: Any) -> tuple[Container, ...]:
        return tuple(
            Container(name=f"c{n}", resources=ResourceRequirements(requests=dict.fromkeys(one, "1")))
            for n, one in enumerate(sets)
        )  # fmt: skip

    before = tuple(Toleration(key=key, operator="Exists", effect="NoSchedule") for key in known)
    pod = Pod(spec=PodSpec(containers=made(main), init_containers=made(init), tolerations=before))
    after = tolerate(pod)
    found = [one.key for one in after.spec.tolerations or ()]
    wanted = {name for one in (*main, *init) for name in one if name in (GPU, NIC, "a.b/c")}
    assert tuple(after.spec.tolerations or ())[: len(before)] == before
    assert set(found) == wanted | set(known)
    assert found[len(before) :] == sorted(wanted - set(known))
    assert tolerate(after) == after


# --- owners


class Owned(CustomWorld):
    """A world in which Jane has a role of these rules."""

    def __init__(self, *rules: tuple[str, str, str]) -> None:
        super().__init__(a_definition())
        authorizer, roles = authorizers(("RBAC",))
        self.config = evolve(with_plugins(OWNER_REFERENCES), authorizer=authorizer, roles=roles)
        found = [{"verbs": [verb], "apiGroups": [group], "resources": [plural]} for verb, group, plural in rules]  # fmt: skip
        rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"}, "rules": found}  # fmt: skip
        assert self.send("POST", f"{rbac}/roles", role)[0] == 201
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "r"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
        }  # fmt: skip
        assert self.send("POST", f"{rbac}/rolebindings", binding)[0] == 201

    def act(self, method: str, path: str, body: Any) -> tuple[int, str]:
        reply: Any = self.http(method, path, body, JSON, JANE)
        return reply.code, json.loads(reply.content).get("message", "")


def owned(kind: str = "Pod", version: str = "v1", *, blocks: bool | None = None, name: str = "c") -> dict[str, Any]:  # fmt: skip
    owner: dict[str, Any] = {"apiVersion": version, "kind": kind, "name": "o", "uid": "u"}
    owner |= {} if blocks is None else {"blockOwnerDeletion": blocks}
    metadata = {"name": name, "ownerReferences": [owner]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


MAY = (("create", "", "configmaps"), ("update", "", "configmaps"))
DELETE = ("delete", "", "configmaps")
BLOCKED = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on"  # fmt: skip


@pytest.mark.parametrize(
    ("rules", "body", "words"),
    [
        (MAY, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}, ""),
        (MAY, owned(), "cannot set an ownerRef on a resource you can't delete"),
        ((*MAY, DELETE), owned(), ""),
        ((*MAY, DELETE), owned(blocks=False), ""),
        ((*MAY, DELETE), owned(blocks=True), BLOCKED),
        ((*MAY, DELETE, ("update", "", "pods/finalizers")), owned(blocks=True), ""),
        ((*MAY, DELETE, ("update", "", "pods")), owned(blocks=True), BLOCKED),
        ((*MAY, DELETE), owned("Gadget", f"{GROUP}/v1", blocks=True), BLOCKED),
        ((*MAY, DELETE, ("update", GROUP, "gadgets/finalizers")), owned("Gadget", f"{GROUP}/v1", blocks=True), ""),
        ((*MAY, DELETE), owned("Odd", "a.b/v1", blocks=True), "cannot find RESTMapping for APIVersion a.b/v1 Kind Odd"),
    ],
)  # fmt: skip
def test_adm_44_an_owner_is_set_by_who_may_delete(rules, body, words):
    code, said = Owned(*rules).act("POST", CONFIG_MAPS, body)
    assert (code, words in said) == (403 if words else 201, True), said


def test_adm_44_only_what_a_request_changes_is_checked():
    world = Owned(*MAY)
    code, made = world.send("POST", CONFIG_MAPS, owned(blocks=True))
    assert code == 201, made
    changed = {**made, "data": {"a": "b"}}
    assert world.act("PUT", f"{CONFIG_MAPS}/c", changed)[0] == 200
    without = json.loads(json.dumps(made))
    del without["metadata"]["ownerReferences"]
    del without["metadata"]["resourceVersion"]
    code, said = world.act("PUT", f"{CONFIG_MAPS}/c", without)
    assert (code, "cannot set an ownerRef" in said) == (403, True)
    world.config = evolve(world.config, admission=AdmissionConfig())
    assert world.act("PUT", f"{CONFIG_MAPS}/c", without)[0] == 200


def test_adm_44_an_owner_whose_deletion_was_blocked_before_is_not_checked_again():
    world = Owned(*MAY, DELETE)
    _, made = world.send("POST", CONFIG_MAPS, owned(blocks=True))
    made["metadata"]["ownerReferences"].append({"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "y"})  # fmt: skip
    assert world.act("PUT", f"{CONFIG_MAPS}/c", made)[0] == 200


def test_adm_44_custom_objects_are_checked_too():
    world = Owned(("create", GROUP, "gadgets"))
    body = {**owned(), "apiVersion": f"{GROUP}/v1", "kind": "Gadget"}
    code, said = world.act("POST", gadgets(), body)
    assert (code, "cannot set an ownerRef" in said) == (403, True)


def test_adm_43_adm_44_names_of_plugins_are_checked():
    assert read_plugins(["NamespaceLifecycle", *OPTIONAL]) == frozenset(OPTIONAL)
    with pytest.raises(UnknownPlugin, match="AlwaysPullImages"):
        read_plugins(["AlwaysPullImages"])
