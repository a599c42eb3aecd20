"""The objects that every cluster has, created when an API server starts. Rules HOST-22, RBAC-6,
ALLOC-10.

Several API servers may start at the same time on one store, and the answers of the store may be
lost. So each object is read before it is created or corrected, and read again if the outcome of a
write is unknown.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Final

from refk8s.components.files import CannotRun
from refk8s.core.api import resources
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import SERVICE_CIDRS, SERVICES, Resource
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import API_SERVER
from refk8s.core.apiserver.admission.outcome import AdmissionConfig
from refk8s.core.context import Context
from refk8s.core.store_port import Store, StoreUnavailable, StoreUnknown
from refk8s.core.value import evolve

log = logging.getLogger("refk8s")

RBAC: Final = "rbac.authorization.k8s.io/v1"
TRIES_MAX: Final = 12
DELAY_SECONDS_FIRST, DELAY_SECONDS_MAX = 0.05, 10.0
"""Those of the loop's requests (LOOP-6): 12 tries take 43 seconds and the time of the store."""
UNKNOWN_CODES: Final = (503, 504)

Call = Callable[[Request], Awaitable[Response]]
Sleep = Callable[[float], Awaitable[None]]


def _delay_seconds(tries: int) -> float:
    return min(DELAY_SECONDS_FIRST * (1 << tries), DELAY_SECONDS_MAX)


async def until_known(
    step: Callable[[], Awaitable[Response]], sleep: Sleep = asyncio.sleep
) -> Response:
    """Repeat the step, with increasing delays, while its outcome is unknown or the store cannot be
    reached. It has to look before it writes. Returns the last response (HOST-22)."""
    response = await step()
    for tries in range(TRIES_MAX - 1):
        if response.code not in UNKNOWN_CODES:
            break
        await sleep(_delay_seconds(tries))
        response = await step()
    return response


async def bootstrap(
    call: Call, config: AdmissionConfig, address: str, port: int, sleep: Sleep = asyncio.sleep
) -> None:
    """Create the objects that every cluster has: namespaces first, since others are in them.
    Raises CannotRun."""
    from refk8s.core.apiserver.admission.api_services import local_api_services
    from refk8s.core.apiserver.admission.bootstrap import bootstrap_objects
    from refk8s.core.apiserver.authorize.default_policy import WITHDRAWN, default_policy
    from refk8s.core.apiserver.flow_control import default_flow_control

    objects = bootstrap_objects(address, port, config)
    objects += default_policy()
    objects += default_flow_control()
    objects += local_api_services()
    namespaces = [obj for obj in objects if obj.kind == "Namespace"]
    for group in (namespaces, [obj for obj in objects if obj.kind != "Namespace"]):
        await _all_of(_ensure(call, config, obj, sleep) for obj in group)
    await _all_of(_withdraw(call, *where, sleep) for where in WITHDRAWN)


async def _withdraw(call: Call, resource: Resource, name: str, sleep: Sleep) -> None:
    """RBAC-6: delete a role or binding that an earlier version made. Raises CannotRun."""
    request = Request("get", resource, name=name, user=API_SERVER)
    found = await until_known(partial(call, request), sleep)
    if found.ok:
        found = await until_known(partial(call, evolve(request, verb="delete")), sleep)
    if not found.ok and found.code != 404:
        raise CannotRun(f"cannot delete {resource.kind} {name}: {found.body.message}")


async def _all_of(steps: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Take the steps together. If one fails, the others are ended."""
    tasks = [asyncio.ensure_future(step) for step in steps]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def _ensure(call: Call, config: AdmissionConfig, obj: Any, sleep: Sleep) -> None:
    from refk8s.core.apiserver.admission.bootstrap import DNS_SERVICE

    response = await until_known(partial(_look_and_write, call, config, obj), sleep)
    if response.ok or response.code == 409:  # another server was first
        return
    problem = f"cannot make {obj.kind} {obj.metadata.name}: {response.body.message}"
    if obj.metadata.name != DNS_SERVICE or response.code != 422:
        raise CannotRun(problem)
    # a user has given its address to another service, after deleting this one
    log.warning("pods cannot resolve names: %s", problem)


async def _look_and_write(call: Call, config: AdmissionConfig, obj: Any) -> Response:
    """Create the object, or correct it if it is there. Returns the last response."""
    from refk8s.core.apiserver.admission.bootstrap import service_cidr_correction

    resource = resources.by_kind(obj.api_version, obj.kind)
    assert resource is not None, f"{obj.kind} is not served"
    where = (resource, obj.metadata.namespace or "", obj.metadata.name)
    existing = await call(Request("get", *where, user=API_SERVER))
    if existing.code == 404:
        return await call(Request("create", *where, body=obj, user=API_SERVER))
    if existing.ok and resource == SERVICE_CIDRS:
        correction = service_cidr_correction(existing.body, config)
        if correction is not None:
            verb, fresh = correction
            response = await call(Request(verb, *where, body=fresh, user=API_SERVER))
            return existing if response.code == 404 else response
    if existing.ok and obj.api_version == RBAC:
        return await _correct(call, where, existing, obj)
    return existing


async def _correct(
    call: Call, where: tuple[Any, str, str], existing: Response, wanted: Any
) -> Response:
    """RBAC-6: give a default role or binding back what it lacks. Returns the last response."""
    from refk8s.core.apiserver.authorize.default_policy import corrected, is_to_be_replaced

    requests = []
    if is_to_be_replaced(existing.body, wanted):
        requests += [
            Request("delete", *where, user=API_SERVER),
            Request("create", *where, body=wanted, user=API_SERVER),
        ]
    elif (fresh := corrected(existing.body, wanted)) is not None:
        requests.append(Request("update", *where, body=fresh, user=API_SERVER))
    response = existing
    for request in requests:
        response = await call(request)
        if not response.ok and response.code != 404:
            break
    return existing if response.code == 404 else response


async def allocate_missing_numbers(
    store: Store[Any],
    context: Callable[[], Context],
    config: AdmissionConfig,
    sleep: Sleep = asyncio.sleep,
) -> None:
    """ALLOC-10. Raises CannotRun."""
    try:
        keys = [record.key for record in store.list(SERVICES.prefix).records]
    except ApiError as error:  # ETCD-9
        log.error("node ports and addresses of services were not checked: %s", error)
        return
    for key in keys:
        await _allocate_missing(store, key, context, config, sleep)


async def _allocate_missing(
    store: Store[Any],
    key: str,
    context: Callable[[], Context],
    config: AdmissionConfig,
    sleep: Sleep,
) -> None:
    from refk8s.core.apiserver.admission.allocate_missing import allocate_missing

    tries = 0
    while (record := store.get(key)) is not None:
        txn = allocate_missing(record, store, context(), config)
        if txn is None:
            return
        outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        store.submit(txn, outcome.set_result)
        known = await outcome
        if isinstance(known, StoreUnavailable | StoreUnknown) and tries < TRIES_MAX - 1:
            await sleep(_delay_seconds(tries))
            tries += 1
        elif isinstance(known, Exception):
            raise CannotRun(f"--store: {known}")
