"""APIServices: APISVC-1 to APISVC-4 (spec/api_services.md)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from api_world import World
from custom_world import DEFINITIONS, GROUP, a_definition, a_version, causes
from test_crd_controllers import Managed

from refk8s.core.api import resources
from refk8s.core.api.resources import SERVED
from refk8s.core.apiserver.admission.api_services import local_api_services
from refk8s.core.controllers.custom_resource_definition import apiextensions

PATH = "/apis/apiregistration.k8s.io/v1/apiservices"
AUTOMANAGED = "kube-aggregator.kubernetes.io/automanaged"
INVALID, REQUIRED = "FieldValueInvalid", "FieldValueRequired"
SERVICE = {"namespace": "n", "name": "s"}


def an_api_service(name: str = "v1.example.com", **spec: Any) -> dict[str, Any]:
    given = {"group": "example.com", "version": "v1", "groupPriorityMinimum": 9}
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": name},
        "spec": {**given, "versionPriority": 9, **spec},
    }


def send(world: World, method: str, path: str, body: Any = b"") -> tuple[int, Any]:
    reply: Any = world.http(method, path, body, {"content-type": "application/json"})
    return reply.code, json.loads(reply.content)


@pytest.mark.parametrize(
    ("name", "spec", "wrong"),
    [
        ("v1.example.com", {}, []),
        ("v1.example.com", {"groupPriorityMinimum": 20_000, "versionPriority": 1_000}, []),
        ("v1.", {"group": ""}, []),
        ("v1.other.com", {}, [("metadata.name", INVALID)]),
        ("v2.", {"group": "", "version": "v2"}, [("spec.group", REQUIRED)]),
        ("v1.A", {"group": "A"}, [("spec.group", INVALID)]),
        ("1.example.com", {"version": "1"}, [("spec.version", INVALID)]),
        ("v1.example.com", {"groupPriorityMinimum": 0}, [("spec.groupPriorityMinimum", INVALID)]),
        ("v1.example.com", {"groupPriorityMinimum": 20_001}, [("spec.groupPriorityMinimum", INVALID)]),
        ("v1.example.com", {"versionPriority": 1_001}, [("spec.versionPriority", INVALID)]),
        ("v1.example.com", {"versionPriority": -1}, [("spec.versionPriority", INVALID)]),
    ],
)  # fmt: skip
def test_apisvc_1_an_api_service_is_named_after_its_version_and_group(name, spec, wrong):
    code, answer = send(World(), "POST", PATH, an_api_service(name, **spec))
    assert (code, causes(answer) if code != 201 else []) == (422 if wrong else 201, wrong)


def test_apisvc_1_an_update_is_checked_like_a_new_object():
    world = World()
    code, made = send(world, "POST", PATH, an_api_service())
    assert code == 201
    made["spec"]["version"] = "v2"
    code, answer = send(world, "PUT", f"{PATH}/v1.example.com", made)
    assert (code, causes(answer)) == (422, [("metadata.name", INVALID)])


@pytest.mark.parametrize(
    ("spec", "wrong"),
    [
        ({"service": SERVICE}, []),
        ({"service": SERVICE, "caBundle": "YQ=="}, []),
        ({"service": SERVICE, "insecureSkipTLSVerify": True}, []),
        ({"caBundle": "YQ=="}, [("spec.caBundle", INVALID)]),
        ({"insecureSkipTLSVerify": True}, [("spec.insecureSkipTLSVerify", INVALID)]),
        ({"service": {"name": "s"}}, [("spec.service.namespace", REQUIRED)]),
        ({"service": {"namespace": "n"}}, [("spec.service.name", REQUIRED)]),
        ({"service": {**SERVICE, "port": 0}}, [("spec.service.port", INVALID)]),
        ({"service": {**SERVICE, "port": 65_536}}, [("spec.service.port", INVALID)]),
        ({"service": SERVICE, "caBundle": "YQ==", "insecureSkipTLSVerify": True}, [("spec.insecureSkipTLSVerify", INVALID)]),
    ],
)  # fmt: skip
def test_apisvc_2_what_is_local_has_no_authority_and_what_is_remote_names_a_service(spec, wrong):
    code, answer = send(World(), "POST", PATH, an_api_service(**spec))
    assert (code, causes(answer) if code != 201 else []) == (422 if wrong else 201, wrong)
    if wrong:
        return
    assert answer["spec"]["service"]["port"] == 443
    assert answer.get("status", {}) == {}


def test_apisvc_2_a_local_api_service_is_available_from_its_creation():
    world = World()
    given = {**an_api_service(), "status": {"conditions": [{"type": "Odd", "status": "Perhaps"}]}}
    code, made = send(world, "POST", PATH, given)
    conditions = [
        (one["type"], one["status"], one["reason"]) for one in made["status"]["conditions"]
    ]
    assert (code, conditions) == (201, [("Available", "True", "Local")])
    made["status"]["conditions"][0]["status"] = "Perhaps"
    code, answer = send(world, "PUT", f"{PATH}/v1.example.com/status", made)
    assert code == 422
    assert causes(answer) == [("status.conditions[0].status", "FieldValueNotSupported")]


def test_apisvc_3_each_built_in_group_version_has_an_api_service():
    world = World()
    for one in local_api_services():
        path = f"{PATH}"
        code, answer = send(world, "POST", path, json.loads(json.dumps(_tree(one))))
        assert code == 201, answer
        assert answer["status"]["conditions"][0]["status"] == "True"
    code, listed = send(world, "GET", PATH)
    names = {one["metadata"]["name"] for one in listed["items"]}
    wanted = {f"{one.version}.{one.group}" for one in SERVED}
    assert names == wanted - {"v1.apiregistration.k8s.io"}
    apps = next(one for one in listed["items"] if one["metadata"]["name"] == "v1.apps")
    assert apps["metadata"]["labels"] == {AUTOMANAGED: "onstart"}
    assert (apps["spec"]["groupPriorityMinimum"], apps["spec"]["versionPriority"]) == (17_800, 15)


def _tree(obj: Any) -> Any:
    from refk8s.core.api.codec import to_tree

    return to_tree(obj)


class Registering(Managed):
    """The component of an API server that follows definitions."""

    component = staticmethod(apiextensions)

    def names(self) -> dict[str, Any]:
        records = self.history.list(resources.API_SERVICES.prefix).records
        return {one.value.metadata.name: one.value for one in records}


def test_apisvc_4_each_served_version_of_a_definition_has_an_api_service():
    versions = [a_version(), a_version(name="v2", storage=False), a_version(name="v3", storage=False, served=False)]  # fmt: skip
    world = Registering()
    world.define(a_definition(*versions))
    world.run(3)
    found = world.names()
    assert set(found) == {f"v1.{GROUP}", f"v2.{GROUP}"}
    one = found[f"v1.{GROUP}"]
    assert one.metadata.labels == {AUTOMANAGED: "true"}
    assert (one.spec.group_priority_minimum, one.spec.version_priority) == (1_000, 100)

    # it comes back, and is restored; one that is not managed stays as it is
    assert world.send("DELETE", f"{PATH}/v1.{GROUP}")[0] == 200
    patch = {"spec": {"versionPriority": 7}}
    merge = "application/merge-patch+json"
    assert world.send("PATCH", f"{PATH}/v2.{GROUP}", patch, merge)[0] == 200
    world.run(3)
    found = world.names()
    assert set(found) == {f"v1.{GROUP}", f"v2.{GROUP}"}
    assert found[f"v2.{GROUP}"].spec.version_priority == 100
    patch = {"spec": {"versionPriority": 7}, "metadata": {"labels": {AUTOMANAGED: None}}}
    assert world.send("PATCH", f"{PATH}/v2.{GROUP}", patch, merge)[0] == 200
    world.run(3)
    assert world.names()[f"v2.{GROUP}"].spec.version_priority == 7

    # the others go with the definition
    assert world.send("DELETE", f"{DEFINITIONS}/gadgets.{GROUP}")[0] == 200
    world.run(4)
    assert set(world.names()) == {f"v2.{GROUP}"}
