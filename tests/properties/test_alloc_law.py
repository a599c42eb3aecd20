"""Nothing is held without its Service, by whatever way Services come, change and go (spec/admission.md, ALLOC-1 and ALLOC-6)."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from test_alloc import MERGE, TYPES, Servers, names, service

from refk8s.core.api import resources
from refk8s.core.api.core_v1 import ServicePort
from refk8s.core.api.meta_v1 import DeleteOptions
from refk8s.core.api.request import Options, Patch, Request

SERVICES = resources.SERVICES
HELD = ("example.com/hold",)


@st.composite
def wishes(draw: st.DrawFn) -> Request:
    """Every way in which a Service comes, changes or goes."""
    name, of_type = draw(names), draw(st.sampled_from(TYPES))
    external = "a.b" if of_type == "ExternalName" else None
    change: dict[str, Any] = {"type": of_type, "externalName": external}
    dry = Options(dry_run=draw(st.sampled_from([False, False, False, True])))
    match draw(st.sampled_from(["create", "create", "create", "type", "release", "both", "mark", "collection", "delete"])):
        case "create":
            ports = (ServicePort(port=80),)
            policy = draw(st.sampled_from([None, "Local"])) if of_type in ("NodePort", "LoadBalancer") else None
            made = service(name, type=of_type, ports=ports, external_name=external, external_traffic_policy=policy)
            finalizers = draw(st.sampled_from([None, HELD]))
            made = replace(made, metadata=replace(made.metadata, finalizers=finalizers, labels={"app": draw(st.sampled_from("xy"))}))
            return Request("create", SERVICES, "n", body=made, options=dry)
        case "type":
            body: Any = {"spec": change}
        case "release":
            body = {"metadata": {"finalizers": None}}
        case "both":
            body = {"metadata": {"finalizers": None}, "spec": change}
        case "mark":
            return Request("delete", SERVICES, "n", name, body=DeleteOptions(propagation_policy="Foreground"))
        case "collection":
            chosen = Options(label_selector=draw(st.sampled_from(["", "app=x"])))
            body = DeleteOptions(dry_run=("All",) if dry.dry_run else None)
            return Request("deletecollection", SERVICES, "n", body=body, options=chosen)
        case _:
            return Request("delete", SERVICES, "n", name, body=DeleteOptions(dry_run=("All",) if dry.dry_run else None))
    return Request("patch", SERVICES, "n", name, body=Patch(MERGE, body), options=dry)


@settings(max_examples=3 * settings.default.max_examples)
@given(st.lists(st.one_of(wishes(), st.integers(0, 7)), max_size=30))
def test_alloc_6_nothing_is_held_without_its_service_and_no_service_lacks_what_it_has(steps):
    """A number lets one of the waiting commits land; with it every order of looking and landing can come."""
    servers = Servers()
    for step in steps:
        if isinstance(step, Request):
            servers.look(step)
        elif servers.waiting:
            servers.land(step)
        assert servers.wrong() == []
    while servers.waiting:
        servers.land(0)
        assert servers.wrong() == []
