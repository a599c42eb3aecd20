"""A served Kubernetes API: the store, the API server and its HTTP front. Rules HOST-1 to HOST-7
(spec/host.md).

`refk8s run` has one beside the other components; `refk8s apiserver` has nothing else.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refk8s.components import certificates
from refk8s.components.apiserver import UNKNOWN, ApiServer
from refk8s.components.authentication import read_authentication
from refk8s.components.bootstrapping import allocate_missing_numbers, bootstrap, until_known
from refk8s.components.clock import Clock
from refk8s.components.credentials import (
    Credentials,
    load_credentials,
    load_front_proxy_authority,
    load_front_proxy_client,
    read_cluster_id,
    write_cluster_id,
)
from refk8s.components.files import (
    CannotRun,
    DirectoryLock,
    make_directory,
    make_private,
    remove_directories,
)
from refk8s.components.http import Front
from refk8s.components.key_maker import KeyMakerProcess
from refk8s.components.kubeconfig import check_kubeconfig, kubeconfig_of, merge_kubeconfig
from refk8s.components.listening import LOCAL, advertised_url, listen, names_of, url_of
from refk8s.components.options import ServerOptions
from refk8s.components.this_machine import hostname, is_own_address, node_address
from refk8s.components.token_signer import token_signer
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import EVENTS
from refk8s.core.api.service_addresses import kubernetes_address
from refk8s.core.api.user import ADMIN, API_SERVER
from refk8s.core.apiserver.admission.outcome import AdmissionConfig
from refk8s.core.apiserver.authorize import OPEN_PATHS
from refk8s.core.apiserver.authorize.modes import authorizers
from refk8s.core.apiserver.config import Config
from refk8s.core.apiserver.health import DEFINITIONS, OBJECTS, SERVICE
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.apiserver.oidc.issuers import Anonymous, Issuer
from refk8s.core.apiserver.stored import decode_stored, encode_stored
from refk8s.core.ports import Nodes
from refk8s.core.store_port import Store
from refk8s.core.value import evolve
from refk8s.store.errors import StoreRefused
from refk8s.store.open import is_etcd, open_store

if TYPE_CHECKING:
    from socket import socket

    from refk8s.components.auditing import Auditor
    from refk8s.components.authorization import Authorizers
    from refk8s.components.config_reload import ConfigReload
    from refk8s.components.driver import Driver
    from refk8s.components.encryption import Encryption
    from refk8s.components.event_expiry import EventExpiry
    from refk8s.components.front_proxy import FrontProxy
    from refk8s.components.issuers import Issuers
    from refk8s.components.kubernetes_service import KubernetesService
    from refk8s.components.token_webhook import TokenWebhook
    from refk8s.components.webhook_credentials import WebhookCredentials
    from refk8s.core.apiserver.admission.configuration import AdmissionFile
    from refk8s.core.apiserver.token_key import PublicKey

log = logging.getLogger("refk8s")

LEAVE_SECONDS_MAX = 2.0


class ServedApi:
    """The parts of one API server, in the order of their start: `open`, `serve`, `maintain`."""

    def __init__(
        self, options: ServerOptions, clock: Clock, keys: KeyMakerProcess | None = None
    ) -> None:
        self.options = options
        self.clock = clock
        self._keys = keys  # makes the keys of a first start
        self.store: Store[Any] | None = None
        self.api: ApiServer | None = None
        self.front: Front | None = None
        self.credentials: Credentials | None = None
        self.cluster_id = ""
        self.url = ""
        self._socket: socket | None = None
        self._lock: DirectoryLock | None = None
        self._kubernetes: KubernetesService | None = None
        self._expiry: EventExpiry | None = None
        self._definitions: Driver | None = None
        self._reload: ConfigReload | None = None
        self._authentication: tuple[tuple[Issuer, ...], Anonymous] = ((), Anonymous())
        self._issuers: Issuers | None = None
        self._authorizers: Authorizers | None = None
        self._webhook: TokenWebhook | None = None
        self._auditor: Auditor | None = None
        self._proxy: FrontProxy | None = None
        self._earlier_keys: tuple[PublicKey, ...] = ()
        self._encryption: Encryption | None = None
        self._admission: tuple[AdmissionFile, dict[str, WebhookCredentials]] | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._machine_address = ""

    # --- starting ---------------------------------------------------------------------------------

    async def open(self) -> None:
        """Take the directory, the port and the store. Raises CannotRun; then nothing is left."""
        options = self.options
        known = self._machine_address = options.machine_address or node_address()
        if options.advertise_address and not is_own_address(known):
            raise CannotRun(f"--advertise-address {known}: not an address of this machine")
        self._authentication = read_authentication(
            options.authentication_config, options.oidc, Config().issuer
        )
        if (
            options.authorization_config
            or "Webhook" in options.authorization_modes
            or (options.authorization_webhook.get("config_file"))
        ):
            from refk8s.components.authorization import read_authorizers

            self._authorizers = read_authorizers(
                options.authorization_config,
                options.authorization_modes,
                options.authorization_webhook,
            )
        if options.token_webhook.get("config_file"):
            from refk8s.components.token_webhook import read_token_webhook

            self._webhook = read_token_webhook(options.token_webhook, Config().audiences)
        if options.service_account_keys:
            from refk8s.components.earlier_keys import read_earlier_keys

            self._earlier_keys = read_earlier_keys(options.service_account_keys)
        if any(options.request_headers.values()):
            from refk8s.components.front_proxy import read_front_proxy

            self._proxy = read_front_proxy(options.request_headers)
        if options.admission_control_config_file:
            from refk8s.components.admission_config import read_admission_config

            self._admission = read_admission_config(options.admission_control_config_file)
        if options.encryption_provider_config:
            from refk8s.components.encryption import read_encryption

            self._encryption = read_encryption(options.encryption_provider_config)
        if options.audit.get("policy_file") or options.audit.get("log_path"):
            from refk8s.components.auditing import make_auditor

            self._auditor = make_auditor(options.audit, self.clock)
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
            self._socket = listen(options.bind, options.port)
            undo.callback(self._socket.close)
            self.store = await self._open_store(undo)
            undo.pop_all()
        self.url = url_of(options.bind, self.port)

    async def serve(self) -> None:
        """Serve the API with the objects that every cluster has, and write the kubeconfig."""
        options = self.options
        assert self._socket is not None and self.store is not None, "open() comes first"
        service = kubernetes_address(options.service_cidrs)
        names = names_of(options.bind, hostname(), self._machine_address, service)
        keys = self._keys or certificates
        credentials = load_credentials(options.shared_pki, names, options.own_pki, keys)
        self.credentials = credentials
        # not in a thread: it would wait for the interpreter's lock at every step (HOST-7)
        merge_kubeconfig(options.kubeconfig_path, kubeconfig_of(self.url, credentials))
        await self._serve(credentials)

    async def _serve(self, credentials: Credentials) -> None:
        options = self.options
        assert self._socket is not None and self.store is not None
        admission = AdmissionConfig(options.service_cidrs)
        config = _config(credentials, options.authorization_modes, self._authorizers)
        if self._earlier_keys:
            config = evolve(config, earlier_keys=self._earlier_keys)
        issuers, anonymous = self._authentication
        if issuers:
            from refk8s.components.issuers import Issuers

            self._issuers = Issuers(issuers)
            config = evolve(config, issuers=self._issuers.trusted)
        if "AlwaysAllow" in config.modes and config.authorizer is not None:
            anonymous = Anonymous(anonymous.is_enabled, OPEN_PATHS)  # API-13
        config = evolve(config, anonymous=anonymous, admission=admission, webhook=self._webhook)
        if self._admission is not None:
            said = self._admission[0]
            admission = evolve(
                config.admission, pod_security=said.pod_security, limited=said.limited
            )
            config = evolve(config, admission=admission)
        if options.admission_plugins:
            admission = evolve(config.admission, plugins=options.admission_plugins)
            config = evolve(config, admission=admission)
        if self._encryption is not None:
            config = evolve(config, stale=self._encryption.stale)
        self.api = ApiServer(self.store, self.clock, config)
        if self._authorizers is not None:
            self.api.webhooks = self._authorizers.webhooks
        # the endpoints are added later (HOST-2)
        await bootstrap(self.call, config.admission, LOCAL, self.port)
        if is_etcd(options.store_url):
            await allocate_missing_numbers(self.store, self.api.context, config.admission)
        await asyncio.gather(
            self._publish_info(credentials), self._publish_authentication(credentials)
        )
        self._release_keys()
        self.api.start_parts = {
            OBJECTS: lambda: True,  # no request is answered before
            DEFINITIONS: lambda: self._definitions is not None and self._definitions.state.synced,
            SERVICE: lambda: self._kubernetes is not None,
        }
        if self._admission is not None:
            self.api.outgoing.credentials = self._admission[1]
        self.api.outgoing.find_certificate = partial(load_front_proxy_client, options.shared_pki)
        self.front = Front(self.api)
        self.front.auditor, self.front.proxy = self._auditor, self._proxy
        self.front.webhook = self._webhook
        if self._issuers is not None:
            self.front.issuers = self._issuers
            self._fetching = asyncio.create_task(self._issuers.refresh())
        await self.front.serve(self._socket, credentials)

    def maintain(self, nodes: Nodes | None) -> None:
        """Keep the service default/kubernetes, let definitions take effect and Events expire.
        `nodes`: those of this process, whose bridge may lead pods to the API server."""
        from refk8s.components.driver import Driver
        from refk8s.components.event_expiry import EventExpiry
        from refk8s.components.kubernetes_service import KubernetesService
        from refk8s.core.apiserver.flow_control import default_flow_control
        from refk8s.core.controllers.api_service_availability import NAME as AVAILABILITY
        from refk8s.core.controllers.custom_resource_definition import apiextensions
        from refk8s.core.controllers.legacy_tokens import LegacyTokenTracking

        assert self.api is not None and self.front is not None
        bind, port = self.options.bind, self.port
        self._kubernetes = KubernetesService(
            self.api, self.front, nodes, self.call, API_SERVER, bind, port, self._machine_address
        )
        self._kubernetes.start()
        machine = apiextensions(default_flow_control(), (LegacyTokenTracking(),))
        definitions = self._definitions = Driver(machine, self.api, self.clock)
        definitions.start()
        self.front.discovered = lambda: definitions.state.memories[AVAILABILITY]
        if self.options.authorization_config or self.options.authentication_config:
            self._reload = self._start_reload(self.front)
        if not is_etcd(self.options.store_url):  # etcd deletes them by itself (ETCD-12)
            self._expiry = EventExpiry(
                self.api, self.call, API_SERVER, self.options.event_ttl_seconds
            )
            self._expiry.start()

    def _start_reload(self, front: Front) -> "ConfigReload":
        from refk8s.components.config_reload import ConfigReload

        options, reload = self.options, ConfigReload(front)
        if options.authorization_config:
            reload.watch_authorization(options.authorization_config)
        if options.authentication_config:
            anonymous = self._authentication[1]
            reload.watch_authentication(
                options.authentication_config, anonymous, front.api.config.issuer
            )
        reload.start()
        return reload

    @property
    def port(self) -> int:
        """The port at which the server listens."""
        assert self._socket is not None
        return int(self._socket.getsockname()[1])

    async def _open_store(self, undo: ExitStack) -> Store[Any]:
        """Open the store. It and the data directory have the same cluster id (HOST-6).

        If one of them has lost the id, it is restored from the other.
        """
        where = self.options.store_url
        kind, _, place = where.partition(":")
        path = Path(place).expanduser().absolute()
        is_file = kind == "sqlite" and bool(place)
        has_id = path.exists() if is_file else is_etcd(where)
        known = read_cluster_id(self.options.data, can_be_recovered=has_id)
        if is_file:
            where = f"{kind}:{path}"
            undo.callback(remove_directories, make_directory(path.parent, "--store"))
        cluster_id = known or (None if has_id else str(uuid.uuid4()))
        ttl = {EVENTS.prefix: self.options.event_ttl_seconds}
        try:
            encode, decode = _codec(self._encryption)
            store, found = await open_store(where, encode, decode, stamp, cluster_id, ttl)
        except StoreRefused as error:
            raise CannotRun(str(error)) from None
        if not known:
            known = found or cluster_id or str(uuid.uuid4())
            write_cluster_id(self.options.data, known)
        self.cluster_id = known
        return store

    async def _publish_info(self, credentials: Credentials) -> None:
        """TRUST-4."""
        from refk8s.components.cluster_info import ClusterInfo, publish_info

        url = advertised_url(self.options.bind, self.port, self._machine_address)
        info = ClusterInfo(url, credentials.authority.read_bytes())
        response = await until_known(partial(publish_info, info, self.call))
        if not response.ok:
            log.warning("nodes cannot join: cluster-info: %s", response.body.message)

    async def _publish_authentication(self, credentials: Credentials) -> None:
        """APISVC-12."""
        from refk8s.components.cluster_info import publish
        from refk8s.core.apiserver.aggregation.authentication import (
            CONFIG_MAP,
            NAMESPACE,
            authentication_data,
        )

        keys = self._keys or certificates
        proxy = load_front_proxy_authority(self.options.shared_pki, keys).certificate
        data = authentication_data(credentials.authority.read_text(), proxy.read_text())
        because = "other API servers verify this one by it"
        response = await until_known(
            partial(publish, NAMESPACE, CONFIG_MAP, data, self.call, because)
        )
        if not response.ok:
            log.warning("other API servers cannot verify this one: %s", response.body.message)

    # --- while it runs ----------------------------------------------------------------------------

    async def call(self, request: Request) -> Response:
        """Handle a request of this process."""
        assert self.api is not None
        answered: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()
        self.api.submit(
            request, lambda response: None if answered.done() else answered.set_result(response)
        )
        return await answered or UNKNOWN

    # --- stopping ---------------------------------------------------------------------------------

    def _release_keys(self) -> None:
        if self._keys is not None:
            self._keys.close()
            self._keys = None

    def stop_maintaining(self) -> None:
        """Stop what `maintain` started."""
        for keeper in (self._kubernetes, self._expiry, self._definitions, self._reload):
            if keeper is not None:
                keeper.stop()

    async def close(self) -> None:
        """Stop the started parts in order; safe after a start that failed half way."""
        self.stop_maintaining()
        self._release_keys()
        if self._fetching is not None:
            self._fetching.cancel()
        if self._kubernetes is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._kubernetes.leave(), LEAVE_SECONDS_MAX)
        if self.api is not None:
            self.api.stop()
        if self.front is not None:
            await self.front.close()
        if self.store is not None:
            await self.store.close()
        if self._auditor is not None:
            self._auditor.log.close()
        if self._lock is not None:
            self._lock.release()


def _codec(
    encryption: "Encryption | None",
) -> tuple[Callable[[Any], bytes], Callable[[str, bytes], Any]]:
    """How objects become bytes in the store, and back (CRYPT-1)."""
    if encryption is None:
        return encode_stored, decode_stored
    return (
        lambda value: encryption.encode(value, encode_stored(value)),
        lambda key, data: decode_stored(key, encryption.decode(key, data)),
    )


def _config(
    credentials: Credentials, modes: tuple[str, ...], given: "Authorizers | None"
) -> Config:
    """`given`: the authorizers, if some are webhooks; else those of the modes."""
    signer = token_signer(credentials.token_key)
    if given is None:
        authorizer, roles = authorizers(modes)
    else:
        modes = given.modes
        webhooks = [one.authorizer for one in given.webhooks.values()]
        authorizer, roles = authorizers(modes, webhooks)
    return Config(
        token_key=credentials.token_key,
        sign=signer.sign,
        verify=signer.verify,
        has_metrics=True,
        users={credentials.admin_token: ADMIN},
        authorizer=authorizer,
        roles=roles,
        modes=modes,
    )
