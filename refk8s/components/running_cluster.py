"""A running cluster for `refk8s run`: store, API server and a driver for each component."""

import asyncio
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refk8s.adapters.fake.nodes import FakeNodes
from refk8s.adapters.linux.address import hostname, node_address
from refk8s.components.apiserver import ApiServer
from refk8s.components.clock import CHANCE, Clock
from refk8s.components.credentials import (
    Credentials,
    load_credentials,
    read_cluster_id,
    write_cluster_id,
)
from refk8s.components.driver import Driver
from refk8s.components.files import (
    CannotRun,
    DirectoryLock,
    make_directory,
    make_private,
    remove_directories,
)
from refk8s.components.http import Front
from refk8s.components.kubeconfig import check_kubeconfig, kubeconfig_of, merge_kubeconfig
from refk8s.components.pod_streams import PodStreams
from refk8s.components.run import DNS_ADDRESS, LOCAL, PKI, RunOptions, listen, names_of, url_of
from refk8s.components.story import Storyteller
from refk8s.components.token_signer import token_signer
from refk8s.core.api import codec, resources
from refk8s.core.api.request import Request, Response
from refk8s.core.api.user import ADMIN, API_SERVER
from refk8s.core.apiserver.admission.allocate import NODE_PORT_PREFIX
from refk8s.core.apiserver.config import Config
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.context import Context
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.ports import Nodes
from refk8s.store.errors import StoreRefused
from refk8s.store.open import open_engine

if TYPE_CHECKING:
    from refk8s.components.cluster_dns import ClusterDns
    from refk8s.components.event_expiry import EventExpiry
    from refk8s.components.kubernetes_service import KubernetesService


class RunningCluster:
    """All parts of one `refk8s run`."""

    def __init__(self, options: RunOptions, say: Callable[[str], None] = print) -> None:
        self.options = options
        self.say = say
        self.clock = Clock()
        self.drivers: list[Driver] = []
        self.nodes: Nodes | None = None
        self.engine: Any = None
        self.api: ApiServer | None = None
        self.front: Front | None = None
        self.url = ""
        self._cluster_id = ""
        self._lock: DirectoryLock | None = None
        self._kubernetes: KubernetesService | None = None
        self._expiry: EventExpiry | None = None
        self._dns: list[ClusterDns] = []

    @property
    def ready_line(self) -> str:
        words = self.nodes.words if self.nodes else ""
        return f"refk8s is ready at {self.url} with {words}: export KUBECONFIG={self.options.kubeconfig_path}"

    # --- starting ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start all parts. Raises CannotRun; `stop` then removes what was created."""
        options = self.options
        with ExitStack() as undo:
            made = make_directory(options.data, "--data-dir")
            undo.callback(remove_directories, made)
            make_private(options.data)
            # before anything else of the directory is read or written (HOST-4)
            self._lock = DirectoryLock(options.data)
            undo.callback(self._lock.release, remove=options.data in made)
            undo.callback(
                remove_directories, make_directory(options.kubeconfig_path.parent, "--kubeconfig")
            )
            check_kubeconfig(options.kubeconfig_path)
            self.nodes = self._choose_nodes()
            socket = listen(options.bind, options.port)
            undo.callback(socket.close)
            self.engine = self._open_store(undo)
            undo.pop_all()
        port = socket.getsockname()[1]
        self.url = url_of(options.bind, port)
        names = names_of(options.bind, hostname(), node_address())
        credentials = load_credentials(options.data / PKI, names)
        self.api = ApiServer(self.engine, self.clock, self._config(credentials))
        await self._bootstrap(port)
        self.front = Front(self.api)
        await self.front.serve(socket, credentials)
        await asyncio.to_thread(
            merge_kubeconfig, options.kubeconfig_path, kubeconfig_of(self.url, credentials)
        )
        await self._start_components(credentials)

    def _config(self, credentials: Credentials) -> Config:
        signer = token_signer(credentials.token_key)
        return Config(
            token_key=credentials.token_key,
            sign=signer.sign,
            verify=signer.verify,
            users={credentials.admin_token: ADMIN},
        )

    def _choose_nodes(self) -> Nodes:
        options = self.options
        if options.adapter in ("docker", "auto"):
            from refk8s.adapters.docker.nodes import DockerNodes, NoEngine

            try:
                return DockerNodes(options.data, hostname(), DNS_ADDRESS, options.resolv_conf_path)
            except NoEngine as error:
                if options.adapter == "docker":
                    raise CannotRun(
                        f"{error}; start the engine, set DOCKER_HOST, or use --adapter fake"
                    ) from None
        return FakeNodes(1 if options.nodes is None else options.nodes, self.clock.now, CHANCE)

    def _open_store(self, undo: ExitStack) -> Any:
        """Open the store. It and the data directory have the same cluster id (HOST-6).

        If one of them has lost the id, it is restored from the other.
        """
        kind, _, place = self.options.store_url.partition(":")
        path = Path(place).expanduser().absolute()
        is_file = kind == "sqlite" and bool(place)
        known = read_cluster_id(self.options.data, can_be_recovered=is_file and path.exists())
        if is_file:
            undo.callback(remove_directories, make_directory(path.parent, "--store"))
        cluster_id = known or (None if is_file and path.exists() else str(uuid.uuid4()))
        try:
            engine = open_engine(
                f"{kind}:{path}" if place else kind, codec.encode, _decode, stamp, cluster_id
            )
        except StoreRefused as error:
            raise CannotRun(str(error)) from None
        if not known:
            known = getattr(engine, "cluster_id", None) or cluster_id or str(uuid.uuid4())
            write_cluster_id(self.options.data, known)
        self._cluster_id = known
        return engine

    async def _bootstrap(self, port: int) -> None:
        """Create the objects that every cluster has: namespaces first, since others are in them."""
        from refk8s.core.apiserver.admission.bootstrap import bootstrap_objects

        # the endpoints are added later (HOST-2)
        objects = bootstrap_objects(Context(self.clock.now(), CHANCE), LOCAL, port)
        namespaces = [obj for obj in objects if obj.kind == "Namespace"]
        for group in (namespaces, [obj for obj in objects if obj.kind != "Namespace"]):
            await asyncio.gather(*(self._ensure(obj) for obj in group))

    async def _ensure(self, obj: Any) -> None:
        resource = resources.by_kind(obj.api_version, obj.kind)
        assert resource is not None, f"{obj.kind} is not served"
        where = (resource, obj.metadata.namespace or "", obj.metadata.name)
        if (await self.call(Request("get", *where, user=API_SERVER))).ok:
            return  # From an earlier run: a create would fail for its own IP address, not its name.
        request = Request("create", *where, body=obj, user=API_SERVER)
        response = await self.call(request)
        if not response.ok and response.code != 409:
            raise CannotRun(f"cannot make {obj.kind} {obj.metadata.name}: {response.body.message}")

    async def _start_components(self, credentials: Credentials) -> None:
        assert self.api is not None and self.nodes is not None
        # The API is served already, so the modules of the components are loaded meanwhile.
        components = await asyncio.to_thread(import_module, "refk8s.core.components")
        api, clock = self.api, self.clock
        nodes = self.nodes.start(self._cluster_id)
        assert self.front is not None
        self.front.connect = PodStreams(api, self.nodes)
        teller = Storyteller(clock.now, self.say) if self.options.story else None
        if teller is not None:
            api.listeners.append(teller.committed)
        self.drivers += [
            Driver(machine, api, clock)
            for machine in components.control_plane(credentials.authority.read_text()).values()
        ]
        for node in nodes:
            dns_addresses = (DNS_ADDRESS,) if node.name_server is not None else ()
            config = KubeletConfig(cluster_dns=dns_addresses)
            if node.name_server is not None:
                from refk8s.components.cluster_dns import ClusterDns

                self.drivers.append(
                    Driver(components.dns(), api, clock, name_server=node.name_server)
                )
                self._dns.append(ClusterDns(node.name_server, node.name, self.call))
            for machine in components.node_machines(node.name, config):
                if machine.name == components.kubelet_name(node.name):
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
        for keeper in self._dns:
            keeper.start()
        from refk8s.components.event_expiry import EventExpiry
        from refk8s.components.kubernetes_service import KubernetesService

        bind, port = self.options.bind, int(self.url.rpartition(":")[2])
        self._kubernetes = KubernetesService(
            api, self.front, self.nodes, self.call, API_SERVER, bind, port, node_address()
        )
        self._kubernetes.start()
        self._expiry = EventExpiry(api, self.call, API_SERVER, self.options.event_ttl_seconds)
        self._expiry.start()

    # --- while it runs ----------------------------------------------------------------------------

    async def call(self, request: Request) -> Response:
        """Handle a request of this process."""
        assert self.api is not None
        answered: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()
        self.api.submit(
            request, lambda response: None if answered.done() else answered.set_result(response)
        )
        response = await answered
        assert response is not None, "the API server in this process always answers"
        return response

    # --- stopping ---------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Stop the started parts in order; safe after a start that failed half way."""
        for keeper in (self._kubernetes, self._expiry, *self._dns):
            if keeper is not None:
                keeper.stop()
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
        if self._lock is not None:
            self._lock.release()


_BY_PREFIX: dict[str, Any] = {}


def _decode(key: str, data: bytes) -> Any:
    """Decode the stored value of this key."""
    if not _BY_PREFIX:
        _BY_PREFIX.update({r.prefix: r for r in resources.ALL if not r.storage_api_version})
        # An allocated node port is stored in the same form.
        _BY_PREFIX[NODE_PORT_PREFIX] = resources.IP_ADDRESSES
    prefix = key[: key.index("/", key.index("/", 1) + 1) + 1]
    return codec.decode(_BY_PREFIX[prefix].type, data)
