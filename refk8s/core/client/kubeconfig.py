"""How a kubeconfig says that an API server is reached. Rules CLIENT-8, CLIENT-9 (spec/client.md),
HOOK-13 (spec/webhooks.md).

Source: Kubernetes documentation, "Organizing Cluster Access Using kubeconfig Files"; Client
Authentication (v1) and kubeconfig (v1) references. Left out: `proxy-url` and `auth-provider`, which
are refused, and plug-ins for webhooks.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from refk8s.core.client.servers import SERVERS_MAX
from refk8s.core.value import Value, evolve

SERVERS_EXTENSION = "refk8s.io/api-servers"
PLUGIN_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


class BadKubeconfig(ValueError):
    """Why a kubeconfig cannot be used, in one line without the name of its file."""


class Pem(Value, frozen=True):
    """Certificates or a key: a file, or its content. The content counts if both are there."""

    path: str = ""
    content: bytes = b""

    def __bool__(self) -> bool:
        return bool(self.path or self.content)


class Plugin(Value, frozen=True):
    """A command that prints credentials, and what it is given (CLIENT-10)."""

    api_version: str
    command: str
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    cluster: Mapping[str, Any] | None = None  # of KUBERNETES_EXEC_INFO, if it wants that


class Access(Value, frozen=True):
    """An API server, and the credentials for it."""

    server: str  # a URL without a slash at its end
    authority: Pem = Pem()  # empty: the authorities of the machine
    server_name: str = ""  # in the server's certificate; empty: the host of the URL
    insecure: bool = False  # the server's certificate is not verified
    certificate: Pem = Pem()
    key: Pem = Pem()
    token: str = ""
    token_file: str = ""  # counts before the token
    basic: tuple[str, str] = ("", "")  # user name and password
    plugin: Plugin | None = None
    impersonation: tuple[tuple[str, str], ...] = ()  # headers
    more_servers: tuple[str, ...] = ()  # of the same cluster (CLIENT-15)


def read_access(tree: Any, context: str = "", directory: str = "") -> Access:
    """The access of a context; of the current one if none is named. Raises BadKubeconfig.

    `directory`: that of the file, to which its paths are relative.
    """
    config = _mapping(tree, "the file")
    if _text(config, "kind") not in ("", "Config"):
        raise BadKubeconfig(f"it is a {_text(config, 'kind')}")
    name = context or _text(config, "current-context")
    if not name:
        raise BadKubeconfig("it has no current-context; name one with --context")
    chosen = _entry(config, "contexts", "context", name)
    cluster = _entry(config, "clusters", "cluster", _text(chosen, "cluster"))
    user_name = _text(chosen, "user")
    user = _entry(config, "users", "user", user_name) if user_name else {}
    if cluster.get("proxy-url"):
        raise BadKubeconfig("proxy-url is not supported")
    authority = _pem(cluster, "certificate-authority", directory)
    insecure = cluster.get("insecure-skip-tls-verify") is True
    if insecure and authority:
        raise BadKubeconfig("insecure-skip-tls-verify does not go with a certificate-authority")
    return evolve(
        _access_of(user, directory),
        server=_server(_text(cluster, "server")),
        more_servers=_more_servers(cluster),
        authority=authority,
        server_name=_text(cluster, "tls-server-name"),
        insecure=insecure,
        plugin=_plugin(user, cluster, directory),
    )


def _access_of(user: Mapping[str, Any], directory: str) -> Access:
    """The credentials of a user, without a plug-in and a server."""
    if user.get("auth-provider"):
        raise BadKubeconfig("auth-provider is not supported")
    certificate, key = (
        _pem(user, "client-certificate", directory),
        _pem(user, "client-key", directory),
    )
    if bool(certificate) != bool(key):
        raise BadKubeconfig("client-certificate and client-key require each other")
    return Access(
        server="",
        certificate=certificate,
        key=key,
        token=_header(user, "token"),
        token_file=_path(user, "tokenFile", directory),
        basic=(_text(user, "username"), _text(user, "password")),
        impersonation=_impersonation(user),
    )


class Users(Value, frozen=True):
    """The credentials of a kubeconfig by the name of the user, and the user of its context."""

    by_name: Mapping[str, Access]
    current: str = ""

    def find(self, server: str) -> Access | None:
        """The credentials for this `HOST:PORT`: of the user of this name, else of `*.` and the end
        of the name, without the port if it is 443, else of `*` or of the context (HOOK-13)."""
        host, _, port = server.rpartition(":")
        for name in (server, host) if port == "443" else (server,):
            parts = name.split(".")
            ends = [f"*.{'.'.join(parts[start:])}" for start in range(1, len(parts))]
            for each in (name, *ends):
                if each in self.by_name:
                    return self.by_name[each]
        return self.by_name.get("*") or self.by_name.get(self.current)


def read_users(tree: Any, directory: str = "") -> Users:
    """Every user of a kubeconfig, which needs no clusters. Raises BadKubeconfig, also for a user
    with a plug-in."""
    config = _mapping(tree, "the file")
    if _text(config, "kind") not in ("", "Config"):
        raise BadKubeconfig(f"it is a {_text(config, 'kind')}")
    names = [_text(_mapping(one, "users"), "name") for one in _list(config.get("users"), "users")]
    found = {}
    for name in names:
        user = _entry(config, "users", "user", name)
        if user.get("exec"):
            raise BadKubeconfig("exec is not supported here")
        found[name] = _access_of(user, directory)
    context = _text(config, "current-context")
    chosen = _entry(config, "contexts", "context", context) if context else {}
    return Users(found, _text(chosen, "user"))


def _more_servers(cluster: Mapping[str, Any]) -> tuple[str, ...]:
    """Further URLs of the cluster, in an extension that other programs ignore (CLIENT-15)."""
    for each in _list(cluster.get("extensions"), "extensions"):
        if isinstance(each, dict) and each.get("name") == SERVERS_EXTENSION:
            servers = _list(
                _mapping(each.get("extension"), SERVERS_EXTENSION).get("servers"), "servers"
            )
            if len(servers) >= SERVERS_MAX:
                raise BadKubeconfig(f"it has more than {SERVERS_MAX} servers")
            found = tuple([_server(_text({"server": one}, "server")) for one in servers])
            urls = [urlsplit(one) for one in (*found, _text(cluster, "server").rstrip("/"))]
            if found and any(url.path or url.scheme != "https" for url in urls):
                raise BadKubeconfig("each of several servers must be https://HOST:PORT")
            return found
    return ()


def servers_extension(servers: tuple[str, ...]) -> list[Mapping[str, Any]]:
    """The extensions of a cluster that has these further servers."""
    return [{"name": SERVERS_EXTENSION, "extension": {"servers": [*servers]}}] if servers else []


def _server(text: str) -> str:
    server = text.rstrip("/")
    try:
        url = urlsplit(server)
        is_good = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        is_good = False
    if not is_good or not server.isascii() or not server.isprintable() or " " in server:
        raise BadKubeconfig(f"the server {server[:200]!r} is no URL such as https://HOST:PORT")
    if url.query or url.fragment or url.username is not None:
        raise BadKubeconfig(f"the server {url.hostname} has more than a host, a port and a path")
    return server


def _plugin(user: Mapping[str, Any], cluster: Mapping[str, Any], directory: str) -> Plugin | None:
    if not user.get("exec"):
        return None
    entry = _mapping(user["exec"], "exec")
    version, command = _text(entry, "apiVersion"), _text(entry, "command")
    if version not in PLUGIN_VERSIONS:
        raise BadKubeconfig(
            f"exec.apiVersion {version!r} is not one of {', '.join(PLUGIN_VERSIONS)}"
        )
    if not command:
        raise BadKubeconfig("exec.command is empty")
    if _text(entry, "interactiveMode") == "Always":
        raise BadKubeconfig("exec.interactiveMode Always requires a terminal")
    arguments = entry.get("args") or []
    variables = [_mapping(each, "exec.env") for each in _list(entry.get("env"), "exec.env")]
    if not all(isinstance(each, str) for each in _list(arguments, "exec.args")):
        raise BadKubeconfig("exec.args has an entry that is no text")
    return Plugin(
        version,
        # only a name is looked up in PATH
        _absolute(command, directory) if "/" in command else command,
        tuple(arguments),
        tuple([(_text(each, "name"), _text(each, "value")) for each in variables]),
        _cluster_info(cluster, directory) if entry.get("provideClusterInfo") is True else None,
    )


def _cluster_info(cluster: Mapping[str, Any], directory: str) -> Mapping[str, Any]:
    """`spec.cluster` of an ExecCredential; without the authority if that is a file."""
    told = {
        name: cluster[name]
        for name in (
            "server",
            "tls-server-name",
            "insecure-skip-tls-verify",
            "certificate-authority-data",
        )
        if cluster.get(name)
    }
    for each in _list(cluster.get("extensions"), "extensions"):
        if isinstance(each, dict) and each.get("name") == "client.authentication.k8s.io/exec":
            told["config"] = each.get("extension")
    return told


def _impersonation(user: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    name = _header(user, "as")
    groups = _list(user.get("as-groups"), "as-groups")
    extra = _mapping(user.get("as-user-extra") or {}, "as-user-extra")
    if not name:
        if groups or extra or user.get("as-uid"):
            raise BadKubeconfig("as-groups, as-uid and as-user-extra require `as`")
        return ()
    headers = [("Impersonate-User", name)]
    if uid := _header(user, "as-uid"):
        headers.append(("Impersonate-Uid", uid))
    headers += [("Impersonate-Group", _header({"as-groups": each}, "as-groups")) for each in groups]
    for key, values in extra.items():
        for value in _list(values, "as-user-extra"):
            headers.append(
                (f"Impersonate-Extra-{quote(str(key), safe='')}", _header({key: value}, key))
            )
    return tuple(headers)


# --- parts of the tree


def _entry(config: Mapping[str, Any], lists: str, field: str, name: str) -> Mapping[str, Any]:
    """The entry of this name. Several with it are refused, as kubectl refuses them."""
    found = [
        entry
        for entry in _list(config.get(lists), lists)
        if isinstance(entry, dict) and entry.get("name") == name
    ]
    if len(found) != 1:
        raise BadKubeconfig(f"it has {len(found) or 'no'} {lists} of the name {name!r}")
    return _mapping(found[0].get(field) or {}, field)


def _pem(entry: Mapping[str, Any], field: str, directory: str) -> Pem:
    text = _text(entry, f"{field}-data")
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadKubeconfig(f"{field}-data is not base64") from None
    return Pem(_path(entry, field, directory), content)


def _path(entry: Mapping[str, Any], field: str, directory: str) -> str:
    path = _text(entry, field)
    return _absolute(path, directory) if path else ""


def _absolute(path: str, directory: str) -> str:
    return path if path.startswith("/") or not directory else f"{directory}/{path}"


def _header(entry: Mapping[str, Any], field: str) -> str:
    text = _text(entry, field)
    if not text.isascii() or not text.isprintable():
        raise BadKubeconfig(f"{field} has a character that no header can have")
    return text


def _text(entry: Mapping[str, Any], field: str) -> str:
    value = entry.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadKubeconfig(f"{field} is no text")
    return value


def _list(value: Any, field: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadKubeconfig(f"{field} is no list")
    return value


def _mapping(value: Any, field: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadKubeconfig(f"{field} is no mapping")
    return value
