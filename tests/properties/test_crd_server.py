"""Custom resources of a running API server: its controller, its watches
(spec/custom_resources.md)."""

from __future__ import annotations

import asyncio
from typing import Any

from custom_world import GROUP, a_definition, as_record
from test_http import a_server, in_loop

from refk8s.components.clock import Clock
from refk8s.components.driver import Driver
from refk8s.core.api.custom import CustomObject, has_condition
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Options, Request, Response
from refk8s.core.api.resources import CUSTOM_RESOURCE_DEFINITIONS as CRDS
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.custom.definitions import custom_resources
from refk8s.core.controllers.custom_resource_definition import apiextensions

NAME = f"gadgets.{GROUP}"


async def call(api: Any, *arguments: Any, **more: Any) -> Response:
    answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    api.submit(Request(*arguments, user=ADMIN, **more), answered.set_result)
    response = await answered
    assert response is not None
    return response


def test_crd_2_crd_15_a_running_server_serves_a_definition_until_it_is_gone():
    async def test() -> None:
        api = await a_server()
        driver = Driver(apiextensions(), api, Clock())
        driver.start()
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        events: list[Any] = []
        established = asyncio.Event()

        def seen(found: Any) -> None:
            if any(e.object is not None and has_condition(e.object, "Established") for e in found):
                established.set()

        close = api.watch(Request("watch", CRDS, user=ADMIN), seen, lambda code: None)
        made = await call(api, "create", CRDS, body=as_record(a_definition()))
        assert made.code == 201
        await established.wait()
        (resource,) = custom_resources(api.store)
        obj = CustomObject(
            kind="Gadget",
            api_version=f"{GROUP}/v1",
            metadata=ObjectMeta(name="a"),
            content={"spec": {"x": 1}},
        )
        options = Options(resource_version=str(api.store.revision))
        watch = Request("watch", resource, "default", user=ADMIN, options=options)
        api.watch(watch, events.extend, ended.set_result)
        assert (await call(api, "create", resource, "default", body=obj)).code == 201
        assert (await call(api, "delete", CRDS, "", NAME)).code == 200
        assert await ended == 410
        assert [event.type for event in events] == ["ADDED", "DELETED"]
        assert (await call(api, "get", CRDS, "", NAME)).code == 404
        assert (await call(api, "list", resource, "default")).code == 404
        close()
        driver.stop()

    in_loop(test)
