"""Flags that several commands share, what they mean, and how a command ends with an error."""

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any, NoReturn, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def fail(message: str) -> NoReturn:
    """One line on standard error, status 2."""
    click.echo(f"refk8s: {message}", err=True)
    raise SystemExit(2)


def end(run: Callable[..., int], *arguments: Any) -> NoReturn:
    """Run a command that prints its result, and end with its status."""
    from refk8s.components.files import CannotRun

    try:
        raise SystemExit(run(*arguments, click.echo))
    except CannotRun as reason:
        fail(str(reason))


resolv_conf = click.option(
    "--resolv-conf",
    default=None,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, readable=True),
    help="How other names are resolved.  [default: /etc/resolv.conf]",
)

context = click.option(
    "--context",
    default="",
    metavar="NAME",
    help="The context of the kubeconfig.  [default: its current-context]",
)

network = click.option(
    "--network",
    default=None,
    type=click.Choice(["auto", "host-gw", "vxlan", "none"]),
    help="How packets reach the pods of other nodes (docker only).  [default: auto]",
)

_SERVER = (
    click.option(
        "--store",
        default=None,
        metavar="memory|sqlite:PATH|etcd://HOST:PORT",
        help="Where objects are stored.  [default: sqlite:DATA_DIR/store.db]",
    ),
    click.option(
        "--bind",
        default="127.0.0.1",
        show_default=True,
        metavar="ADDRESS",
        help="The address where the API server listens; 0.0.0.0 for all addresses of this machine.",
    ),
    click.option(
        "--advertise-address",
        default="",
        metavar="ADDRESS",
        help="With --bind 0.0.0.0, the one that other machines and pods use.  [default: that of the default route]",
    ),
    click.option(
        "--port",
        type=click.IntRange(0, 65535),
        default=6443,
        show_default=True,
        help="The API server's port; 0 picks a free one.",
    ),
    click.option(
        "--data-dir",
        default=None,
        metavar="DIR",
        help="The directory of everything that survives a restart.  [default: ~/.refk8s]",
    ),
    click.option(
        "--kubeconfig",
        default=None,
        metavar="PATH",
        help="The administrator's kubeconfig to write; other entries are kept.  [default: DATA_DIR/kubeconfig]",
    ),
    click.option(
        "--event-ttl",
        default="1h",
        show_default=True,
        metavar="DURATION",
        help="How long an Event is kept after its last write.",
    ),
    click.option(
        "--authorization-mode",
        default=None,
        metavar="MODES",
        help="Who may do what: Node, RBAC, Webhook, AlwaysAllow or AlwaysDeny, separated by commas.  [default: Node,RBAC]",
    ),
    click.option(
        "--authorization-config",
        default="",
        metavar="FILE",
        help="The same with several webhooks: an AuthorizationConfiguration.",
    ),
    click.option(
        "--authorization-webhook-config-file",
        default="",
        metavar="FILE",
        help="A kubeconfig with the webhook of the mode Webhook.",
    ),
    click.option(
        "--authorization-webhook-version",
        default="v1beta1",
        show_default=True,
        type=click.Choice(["v1beta1", "v1"]),
        help="The version of the SubjectAccessReview for that webhook.",
    ),
    click.option(
        "--authorization-webhook-cache-authorized-ttl",
        default="5m",
        show_default=True,
        metavar="DURATION",
        help="How long that webhook's permissions hold.",
    ),
    click.option(
        "--authorization-webhook-cache-unauthorized-ttl",
        default="30s",
        show_default=True,
        metavar="DURATION",
        help="How long its other answers hold.",
    ),
    click.option(
        "--service-cluster-ip-range",
        default="10.96.0.0/12",
        show_default=True,
        metavar="CIDR[,CIDR]",
        help="The addresses of services: one range, or one of each family, the default family first.",
    ),
    click.option(
        "--enable-admission-plugins",
        default="",
        metavar="NAMES",
        help="Admission plugins that are off by default, separated by commas.",
    ),
    click.option(
        "--admission-control-config-file",
        default="",
        metavar="FILE",
        help="Configuration of PodSecurity, ResourceQuota and webhooks: an AdmissionConfiguration.",
    ),
    click.option(
        "--authentication-config",
        default="",
        metavar="FILE",
        help="Other issuers of tokens, and who may be anonymous: an AuthenticationConfiguration.",
    ),
    click.option(
        "--authentication-token-webhook-config-file",
        default="",
        metavar="FILE",
        help="A kubeconfig with a webhook that knows further tokens.",
    ),
    click.option(
        "--authentication-token-webhook-cache-ttl",
        default="2m",
        show_default=True,
        metavar="DURATION",
        help="How long an answer of that webhook holds.",
    ),
    click.option(
        "--authentication-token-webhook-version",
        default="v1beta1",
        show_default=True,
        type=click.Choice(("v1beta1", "v1")),
        help="The version of the TokenReview for that webhook.",
    ),
    click.option(
        "--oidc-issuer-url", default="", metavar="URL", help="Another issuer of users' tokens."
    ),
    click.option(
        "--oidc-client-id", default="", metavar="ID", help="The audience of the issuer's tokens."
    ),
    click.option(
        "--oidc-username-claim",
        default="",
        metavar="CLAIM",
        help="The claim with the user name.  [default: sub]",
    ),
    click.option(
        "--oidc-username-prefix",
        default="",
        metavar="TEXT",
        help="Put before user names; - for none.  [default: the issuer and #, except for emails]",
    ),
    click.option(
        "--oidc-groups-claim", default="", metavar="CLAIM", help="The claim with the groups."
    ),
    click.option(
        "--oidc-groups-prefix", default="", metavar="TEXT", help="Put before the names of groups."
    ),
    click.option(
        "--oidc-required-claim",
        multiple=True,
        metavar="CLAIM=VALUE",
        help="A claim that a token must have. May be repeated.",
    ),
    click.option(
        "--oidc-signing-algs",
        default="",
        metavar="ALGORITHMS",
        help="How tokens may be signed, separated by commas.  [default: RS256]",
    ),
    click.option(
        "--oidc-ca-file",
        default="",
        metavar="FILE",
        help="The authorities of the issuer's server.  [default: those of the system]",
    ),
    click.option(
        "--service-account-key-file",
        "service_account_keys",
        multiple=True,
        metavar="FILE",
        help="Keys of tokens that were signed before the key of the cluster changed. May be repeated.",
    ),
    click.option(
        "--requestheader-client-ca-file",
        default="",
        metavar="FILE",
        help="The authorities of proxies that authenticate users and name them in headers.",
    ),
    click.option(
        "--requestheader-allowed-names",
        default="",
        metavar="NAMES",
        help="The common names of these proxies, separated by commas.  [default: any]",
    ),
    click.option(
        "--requestheader-username-headers",
        default="",
        metavar="HEADERS",
        help="The headers with the user name, such as X-Remote-User.",
    ),
    click.option(
        "--requestheader-uid-headers",
        default="",
        metavar="HEADERS",
        help="The headers with the uid, such as X-Remote-Uid.",
    ),
    click.option(
        "--requestheader-group-headers",
        default="",
        metavar="HEADERS",
        help="The headers with the groups, such as X-Remote-Group.",
    ),
    click.option(
        "--requestheader-extra-headers-prefix",
        default="",
        metavar="PREFIXES",
        help="How headers with further attributes begin, such as X-Remote-Extra-.",
    ),
    click.option(
        "--encryption-provider-config",
        default="",
        metavar="FILE",
        help="Which objects are encrypted in the store: an EncryptionConfiguration.",
    ),
    click.option(
        "--audit-policy-file", default="", metavar="FILE", help="Which requests are recorded."
    ),
    click.option(
        "--audit-log-path", default="", metavar="FILE", help="Where; - for standard output."
    ),
    click.option(
        "--audit-log-maxsize",
        type=click.IntRange(0, 1 << 20),
        default=100,
        show_default=True,
        metavar="MIB",
        help="A larger file is renamed; 0 for no bound.",
    ),
    click.option(
        "--audit-log-maxbackup",
        type=click.IntRange(0, 10_000),
        default=10,
        show_default=True,
        metavar="N",
        help="How many renamed files are kept; 0 for no bound.",
    ),
    click.option(
        "--audit-log-maxage",
        type=click.IntRange(0, 36_500),
        default=0,
        show_default=True,
        metavar="DAYS",
        help="How long they are kept; 0 for no bound.",
    ),
)

_AUDIT = ("policy_file", "log_path", "log_maxsize", "log_maxbackup", "log_maxage")

_REQUEST_HEADERS = (
    "client_ca_file", "allowed_names", "username_headers", "uid_headers", "group_headers",
    "extra_headers_prefix",
)  # fmt: skip

_TOKEN_WEBHOOK = "authentication_token_webhook"
_AUTHORIZER = "authorization_webhook"
CACHE_SECONDS_MAX = 86_400
"""How long an answer of a token webhook may hold at most."""
_OIDC = {
    "oidc_issuer_url": "url",
    "oidc_client_id": "client_id",
    "oidc_username_claim": "username_claim",
    "oidc_username_prefix": "username_prefix",
    "oidc_groups_claim": "groups_claim",
    "oidc_groups_prefix": "groups_prefix",
    "oidc_required_claim": "required",
    "oidc_signing_algs": "algorithms",
    "oidc_ca_file": "authority",
}
"""The flags of an issuer, and the arguments of `issuer_of_flags` that they give."""


def server_flags(command: Command) -> Command:
    """The flags of the API server, for `refk8s run` and `refk8s apiserver`."""
    for option in reversed(_SERVER):
        command = option(command)
    return command


def _kept_seconds(options: Mapping[str, Any], name: str) -> float:
    """The seconds for which the answers of a webhook are kept."""
    from refk8s.components.options import parse_duration

    text = options[name]
    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= CACHE_SECONDS_MAX:
        fail(f"--{name.replace('_', '-')} {text}: must be between 0s and 24h")
    return seconds


def check_server_flags(options: dict[str, Any]) -> dict[str, Any]:
    """The fields of `ServerOptions` for these flags, and the other flags unchanged."""
    from refk8s.components.listening import is_address
    from refk8s.components.options import (
        AUTHORIZATION_MODES,
        EVENT_TTL_SECONDS,
        parse_duration,
    )

    if not is_address(options["bind"]):
        fail(
            f"--bind {options['bind']}: not an IP address; use one of this machine's, or 0.0.0.0 for all of them"
        )
    if address := options["advertise_address"]:
        if not ip_address(options["bind"]).is_unspecified:
            fail(f"--advertise-address {address}: only with --bind 0.0.0.0; --bind has the address")
        if not is_address(address) or ip_address(address).version != 4:
            fail(f"--advertise-address {address}: not an IPv4 address of this machine")
    ttl = options["event_ttl"]
    try:
        seconds = parse_duration(ttl)
    except ValueError:
        fail(f"--event-ttl {ttl}: not a duration; write it like 1h, 30m or 1h30m")
    if not EVENT_TTL_SECONDS[0] <= seconds <= EVENT_TTL_SECONDS[1]:
        fail(f"--event-ttl {ttl}: must be between 1s and 87600h")
    token_webhook = {
        "config_file": options[f"{_TOKEN_WEBHOOK}_config_file"],
        "version": options[f"{_TOKEN_WEBHOOK}_version"],
        "cache_seconds": _kept_seconds(options, f"{_TOKEN_WEBHOOK}_cache_ttl"),
    }
    authorizer = {
        "config_file": options[f"{_AUTHORIZER}_config_file"],
        "version": options[f"{_AUTHORIZER}_version"],
        "authorized_seconds": _kept_seconds(options, f"{_AUTHORIZER}_cache_authorized_ttl"),
        "unauthorized_seconds": _kept_seconds(options, f"{_AUTHORIZER}_cache_unauthorized_ttl"),
    }
    if options["authorization_config"] and options["authorization_mode"] is not None:
        fail("--authorization-config: cannot be used with --authorization-mode")
    given = options["authorization_mode"] or "Node,RBAC"
    modes = tuple(given.split(","))
    if not set(modes) <= set(AUTHORIZATION_MODES) or len(set(modes)) < len(modes):
        fail(
            f"--authorization-mode {given}: must be some of {', '.join(AUTHORIZATION_MODES)}, "
            "each once, separated by commas"
        )
    plugins: frozenset[str] = frozenset()
    if names := options["enable_admission_plugins"]:
        # imported here: a start without the flag does not load it
        from refk8s.core.apiserver.admission.plugins import UnknownPlugin, read_plugins

        try:
            plugins = read_plugins(names.split(","))
        except UnknownPlugin as error:
            fail(f"--enable-admission-plugins {names}: {error}")
    from refk8s.components.files import CannotRun
    from refk8s.components.range_flags import service_ranges

    try:
        ranges = service_ranges(options["service_cluster_ip_range"])
    except CannotRun as reason:
        fail(str(reason))
    audit = {name: options[f"audit_{name}"] for name in _AUDIT}
    named = {name: options[f"requestheader_{name}"] for name in _REQUEST_HEADERS}
    flags = (
        "event_ttl",
        "authorization_mode",
        "enable_admission_plugins",
        "service_cluster_ip_range",
        *[f"{_TOKEN_WEBHOOK}_{name}" for name in ("config_file", "cache_ttl", "version")],
        *[
            f"{_AUTHORIZER}_{name}"
            for name in ("config_file", "version", "cache_authorized_ttl", "cache_unauthorized_ttl")
        ],
        *_OIDC,
        *[f"audit_{name}" for name in _AUDIT],
        *[f"requestheader_{name}" for name in _REQUEST_HEADERS],
    )
    rest = {name: value for name, value in options.items() if name not in flags}
    issuer = {name: options[flag] for flag, name in _OIDC.items()}
    issuer["algorithms"] = tuple([one for one in issuer["algorithms"].split(",") if one])
    return {
        **rest, "event_ttl_seconds": seconds, "authorization_modes": modes, "oidc": issuer,
        "audit": audit, "admission_plugins": plugins, "service_cidrs": ranges,
        "request_headers": named, "token_webhook": token_webhook,
        "authorization_webhook": authorizer,
    }  # fmt: skip
