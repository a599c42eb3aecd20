"""A running cluster: the store, the API server, and the drivers of every component, put together for `refk8s run`."""

import asyncio
import contextlib
import uuid
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from refk8s.components.apiserver import ApiServer
from refk8s.components.clock import CHANCE, Clock
from refk8s.components.credentials import Credentials, load_credentials, write_kubeconfig
from refk8s.components.driver import Driver
from refk8s.components.http import Front
from refk8s.components.nodes import FakeNodes, Nodes, NoEngine, hostname
from refk8s.components.pod_streams import PodStreams
from refk8s.components.run import LOCAL, NAMES, SERVICE_ADDRESS, CannotRun, RunOptions, listen, make_directory
from refk8s.components.story import Storyteller
from refk8s.core.api import codec, resources
from refk8s.core.api.request import ADMIN, Request, Response, User
from refk8s.core.apiserver.admission.allocate import NODE_PORT_PREFIX
from refk8s.core.apiserver.authenticate import Config
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.context import Context
from refk8s.store.errors import StoreRefused
from refk8s.store.open import open_engine

BOOTSTRAP_USER = User("system:apiserver", groups=("system:masters",))


class RunningCluster:
    """Everything of one `refk8s run`."""

    def __init__(self, options: RunOptions) -> None:
        self.options = options
        self.clock = Clock()
        self.drivers: list[Driver] = []
        self.nodes: Nodes | None = None
        self.engine: Any = None
        self.api: ApiServer | None = None
        self.front: Front | None = None
        self.url = ""
        self._made: list[Path] = []

    @property
    def ready_line(self) -> str:
        words = self.nodes.words if self.nodes else ""
        return f"refk8s is ready at {self.url} with {words}: export KUBECONFIG={self.options.kubeconfig_path}"

    # --- starting ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything. Raises CannotRun; `stop` then takes back what was made."""
        options = self.options
        self.nodes = self._choose_nodes()
        socket = listen(options.port)
        port = socket.getsockname()[1]
        self.url = f"https://{LOCAL}:{port}"
        try:
            self._made = make_directory(options.data, "--data-dir")
            self._made += make_directory(options.kubeconfig_path.parent, "--kubeconfig")
            self.engine = self._open_store()
        except BaseException:
            socket.close()
            for directory in self._made:
                with contextlib.suppress(OSError):
                    directory.rmdir()
            raise
        credentials = load_credentials(options.data / "pki", (*NAMES, hostname(), LOCAL, SERVICE_ADDRESS))
        self.api = ApiServer(self.engine, self.clock, Config(token_key=credentials.token_key))
        await self._bootstrap(port)
        self.front = Front(self.api, {credentials.admin_token: ADMIN})
        await self.front.serve(socket, credentials)
        write_kubeconfig(options.kubeconfig_path, self.url, credentials)
        await self._start_components(credentials)

    def _choose_nodes(self) -> Nodes:
        options = self.options
        if options.adapter in ("docker", "auto"):
            try:
                from refk8s.components.docker_nodes import DockerNodes  # type: ignore[import-not-found]

                return DockerNodes(self.clock, options.data, hostname())
            except (NoEngine, ImportError) as error:
                if options.adapter == "docker":
                    raise CannotRun(f"{error}; start the engine, set DOCKER_HOST, or use --adapter fake") from None
        return FakeNodes(1 if options.nodes is None else options.nodes, self.clock)

    def _open_store(self) -> Any:
        path = self.options.data / "cluster-id"
        known = path.read_text().strip() if path.exists() else ""
        cluster_id = known or str(uuid.uuid4())
        kind, _, place = self.options.store_url.partition(":")
        if kind == "sqlite" and place:
            self._made += make_directory(Path(place).expanduser().absolute().parent, "--store")
        try:
            engine = open_engine(f"{kind}:{Path(place).expanduser()}" if place else kind, codec.encode, _decode, stamp, cluster_id)
        except StoreRefused as error:
            raise CannotRun(str(error)) from None
        if not known:
            path.write_text(cluster_id + "\n")
        return engine

    async def _bootstrap(self, port: int) -> None:
        """The objects that every cluster has: namespaces first, since the rest lies in them."""
        from refk8s.core.apiserver.admission.bootstrap import bootstrap_objects

        objects = bootstrap_objects(Context(self.clock.now(), CHANCE), LOCAL, port)
        namespaces = [obj for obj in objects if obj.kind == "Namespace"]
        for group in (namespaces, [obj for obj in objects if obj.kind != "Namespace"]):
            await asyncio.gather(*(self._ensure(obj) for obj in group))

    async def _ensure(self, obj: Any) -> None:
        resource = resources.by_kind(obj.api_version, obj.kind)
        assert resource is not None, f"{obj.kind} is not served"
        where = (resource, obj.metadata.namespace or "", obj.metadata.name)
        if (await self.call(Request("get", *where, user=BOOTSTRAP_USER))).ok:
            return  # Made by an earlier run: a create would meet its own addresses before its name.
        request = Request("create", *where, body=obj, user=BOOTSTRAP_USER)
        response = await self.call(request)
        if not response.ok and response.code != 409:
            raise CannotRun(f"cannot make {obj.kind} {obj.metadata.name}: {response.body.message}")

    async def _start_components(self, credentials: Credentials) -> None:
        assert self.api is not None and self.nodes is not None
        # The API is served already: what the components need is loaded beside it.
        assembly = await asyncio.to_thread(import_module, "refk8s.core.assembly")
        api, clock = self.api, self.clock
        nodes = self.nodes.nodes()
        assert self.front is not None
        self.front.connect = PodStreams(api, {node.name: node for node in nodes})
        teller = Storyteller(clock.now) if self.options.story else None
        if teller is not None:
            api.listeners.append(teller.committed)
        self.drivers += [Driver(machine, api, clock) for machine in assembly.control_plane(credentials.authority.read_text()).values()]
        for node in nodes:
            for machine in assembly.node_machines(node.name, node.config):
                if machine.name == assembly.kubelet_name(node.name):
                    driver = Driver(machine, api, clock, runtime=node.runtime)
                    if teller is not None:
                        driver.on_run = partial(teller.operated, node.name)
                else:
                    driver = Driver(machine, api, clock, rules=node.rules)
                    if teller is not None:
                        driver.on_program = partial(teller.programmed, node.name)
                self.drivers.append(driver)
        for driver in self.drivers:
            driver.start()

    # --- while it runs -------------------------------------------------------------------------------------------------

    async def call(self, request: Request) -> Response:
        """One request of our own, answered."""
        assert self.api is not None
        answered: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()
        self.api.submit(request, lambda response: None if answered.done() else answered.set_result(response))
        response = await answered
        assert response is not None, "the API server in this process always answers"
        return response

    async def apply(self, path: Path) -> str:
        """Create what a YAML file holds; what is there already stays as it is."""
        import yaml

        try:
            documents = [document for document in yaml.safe_load_all(path.read_text()) if document]
        except (OSError, yaml.YAMLError) as error:
            return f"cannot apply {path}: {error}"
        said = []
        for document in documents:
            resource = resources.by_kind(document.get("apiVersion", ""), document.get("kind", ""))
            name = document.get("metadata", {}).get("name", "")
            if resource is None:
                said.append(f"{document.get('kind')} is not served")
                continue
            obj, unknown = codec.decode_tolerant(resource.type, document)
            namespace = (obj.metadata.namespace or "default") if resource.namespaced else ""
            response = await self.call(Request("create", resource, namespace, name, body=obj, because=f"{path.name} says so"))
            words = "created" if response.ok else "is there already" if response.code == 409 else response.body.message
            said.append(f"{resource.singular}/{name} {words}" + (f" (unknown: {', '.join(unknown)})" if unknown else ""))
        return "; ".join(said)

    # --- stopping ------------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Stop what was started, in order; safe after a start that failed half way."""
        for driver in self.drivers:
            driver.stop()
        if self.nodes is not None:
            await self.nodes.close(self.options.keep)
        if self.api is not None:
            self.api.stop()
        if self.front is not None:
            await self.front.close()
        if self.engine is not None:
            self.engine.close()


_BY_PREFIX: dict[str, Any] = {}


def _decode(key: str, data: bytes) -> Any:
    """What lies under this key, from its stored form."""
    if not _BY_PREFIX:
        _BY_PREFIX.update({r.prefix: r for r in resources.ALL if not r.storage_api_version})
        _BY_PREFIX[NODE_PORT_PREFIX] = resources.IP_ADDRESSES  # A node port that is taken is kept in the same shape.
    prefix = key[: key.index("/", key.index("/", 1) + 1) + 1]
    return codec.decode(_BY_PREFIX[prefix].type, data)
