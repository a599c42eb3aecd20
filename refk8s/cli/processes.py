"""The components as processes of their own: `refk8s apiserver` and the others
(spec/processes.md)."""

import sys
from collections.abc import Callable
from typing import Any

import click

from refk8s.cli.flags import (
    Command,
    check_server_flags,
    context,
    fail,
    network,
    resolv_conf,
    server_flags,
)


@click.command(short_help="Run an API server on its own.")
@server_flags
@click.option(
    "--pki",
    default=None,
    metavar="DIR",
    help="The directory of the keys that all API servers of a cluster share.  [default: DATA_DIR/pki]",
)
def apiserver(**options: Any) -> None:
    """Run an API server without other components, until Ctrl-C."""
    from refk8s.components.apiserver_process import run_apiserver
    from refk8s.components.options import ServerOptions

    end(run_apiserver, ServerOptions(**check_server_flags(options)))


def client_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """The flags of every component that is a client of an API server."""
    for option in (
        click.option(
            "--bind-address",
            default="127.0.0.1",
            show_default=True,
            metavar="ADDRESS",
            help="The address of /healthz, /readyz and /metrics.",
        ),
        context,
        click.option(
            "--kubeconfig",
            default=None,
            metavar="FILE",
            help="How the API server is reached.  [default: $KUBECONFIG; in a pod its service account]",
        ),
    ):
        command = option(command)
    return command


def secure_port(command: Callable[..., Any]) -> Callable[..., Any]:
    """The port of the health endpoints, over HTTPS."""
    return click.option(
        "--secure-port",
        type=click.IntRange(0, 65535),
        default=None,
        metavar="PORT",
        help="The port of these, over HTTPS.  [default: as upstream, or a free one if it is in use]",
    )(command)


def healthz_port(default: int) -> Callable[[Command], Command]:
    """The flag of the health endpoints without TLS."""
    return click.option(
        "--healthz-port",
        "secure_port",
        type=click.IntRange(0, 65535),
        default=None,
        metavar="PORT",
        help=f"The port of /healthz, over HTTP.  [default: {default}, or a free one if it is in use]",
    )


def elected_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """The flags of a component of which one instance is active."""
    for option in (
        click.option(
            "--leader-elect-resource-namespace",
            default="kube-system",
            show_default=True,
            metavar="NAME",
            help="The namespace of the Lease.",
        ),
        click.option(
            "--leader-elect-resource-name",
            default="",
            metavar="NAME",
            help="The name of the Lease.  [default: that of the component]",
        ),
        click.option(
            "--leader-elect-retry-period",
            default="2s",
            show_default=True,
            metavar="DURATION",
            help="The time between two attempts to acquire or renew the Lease.",
        ),
        click.option(
            "--leader-elect-renew-deadline",
            default="10s",
            show_default=True,
            metavar="DURATION",
            help="The time after which a leader that cannot renew the Lease stops leading.",
        ),
        click.option(
            "--leader-elect-lease-duration",
            default="15s",
            show_default=True,
            metavar="DURATION",
            help="The time that candidates wait after the last renewal that they have seen.",
        ),
        click.option(
            "--leader-elect",
            is_flag=False,
            flag_value="true",
            default=True,
            type=bool,
            metavar="[true|false]",
            help="Act only while this instance holds the Lease of the component.  [default: true]",
        ),
    ):
        command = option(command)
    return command


cluster_domain = click.option(
    "--cluster-domain",
    default="cluster.local",
    show_default=True,
    metavar="DOMAIN",
    help="The domain of the names of Services.",
)


def node_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """The flags of a process that makes this machine a node."""
    for option in (
        click.option(
            "--keep", is_flag=True, help="Leave containers in place when stopped (docker only)."
        ),
        network,
        resolv_conf,
        click.option(
            "--data-dir",
            default=None,
            metavar="DIR",
            help="The directory of volumes and of what survives a restart.  [default: ~/.refk8s/node]",
        ),
        click.option(
            "--node-ip",
            default=None,
            metavar="ADDRESS[,ADDRESS]",
            help="The node's InternalIPs: one of IPv4, and perhaps one of IPv6.  [default: the address from which the API server is reached]",
        ),
        click.option(
            "--node-name",
            default=None,
            metavar="NAME",
            help="The name of the Node.  [default: the name of this machine]",
        ),
    ):
        command = option(command)
    return command


def port_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """The flags of the kubelet's HTTPS port."""
    for option in (
        click.option(
            "--pki",
            default=None,
            metavar="DIR",
            help="The --pki of an API server on this machine: its authority signs the certificate.",
        ),
        click.option(
            "--client-ca-file",
            default=None,
            metavar="FILE",
            help="The authority of the API servers' certificates.  [default: that of the kubeconfig]",
        ),
        click.option(
            "--tls-private-key-file",
            default=None,
            metavar="FILE",
            help="The key of --tls-cert-file.",
        ),
        click.option(
            "--tls-cert-file",
            default=None,
            metavar="FILE",
            help="The certificate of the port.",
        ),
        click.option(
            "--port",
            type=click.IntRange(0, 65535),
            default=None,
            metavar="PORT",
            help="The port for API servers.  [default: 10250, or a free one if it is in use]",
        ),
        click.option(
            "--address",
            default=None,
            metavar="ADDRESS",
            help="The address of this port.  [default: the node's InternalIP]",
        ),
    ):
        command = option(command)
    return command


def check_node_flags(options: dict[str, Any]) -> None:
    """Refuse flags of the other adapter; the default of `--nodes`."""
    if options["adapter"] == "docker":
        if options["nodes"] not in (None, 1):
            fail("--nodes is for simulated nodes: this machine is one node; leave it out")
        return
    for flag in ("node_name", "data_dir", "resolv_conf", "network", "keep"):
        if options[flag]:
            fail(f"--{flag.replace('_', '-')} is for --adapter docker: simulated nodes have none")
    options["nodes"] = 1 if options["nodes"] is None else options["nodes"]


def end(run: Callable[[Any], int], options: Any) -> None:
    """Run the component, and end with its status."""
    from refk8s.components.files import CannotRun

    try:
        sys.exit(run(options))
    except CannotRun as reason:
        fail(str(reason))


@click.command("controller-manager", short_help="Run the controllers on their own.")
@client_flags
@secure_port
@elected_flags
@click.option(
    "--cluster-cidr",
    default=None,
    metavar="CIDR[,CIDR]",
    help="The range of all pods, or one of each family, such as 10.244.0.0/16.  [default: Nodes get no podCIDR]",
)
@click.option(
    "--service-cluster-ip-range",
    default="10.96.0.0/12",
    show_default=True,
    metavar="CIDR[,CIDR]",
    help="The addresses of services, which no Node gets: those of the API server.",
)
@click.option(
    "--node-cidr-mask-size",
    type=click.IntRange(8, 126),
    default=None,
    metavar="BITS",
    help="The size of the range of each Node, with one family.  [default: 24; 64 for IPv6]",
)
@click.option(
    "--node-cidr-mask-size-ipv4",
    type=click.IntRange(8, 30),
    default=None,
    metavar="BITS",
    help="The size of the range of IPv4 of each Node.  [default: 24]",
)
@click.option(
    "--node-cidr-mask-size-ipv6",
    type=click.IntRange(16, 126),
    default=None,
    metavar="BITS",
    help="The size of the range of IPv6 of each Node.  [default: 64]",
)
@click.option(
    "--pki",
    default=None,
    metavar="DIR",
    help="The --pki of an API server: certificates are signed with its keys.  [default: none are signed]",
)
@click.option(
    "--use-service-account-credentials/--no-use-service-account-credentials",
    default=False,
    show_default=True,
    help="Each controller acts as its service account, with its role and no more.",
)
def controller_manager(**options: Any) -> None:
    """Run all controllers against an API server, until Ctrl-C."""
    from refk8s.components.component_process import (
        ControllerManagerOptions,
        run_controller_manager,
    )

    end(run_controller_manager, ControllerManagerOptions(**options))


@click.command(short_help="Run a scheduler on its own.")
@client_flags
@secure_port
@elected_flags
@click.option(
    "--config",
    default="",
    metavar="FILE",
    help="Profiles and plugins: a KubeSchedulerConfiguration.",
)
def scheduler(**options: Any) -> None:
    """Run a scheduler against an API server, until Ctrl-C."""
    from refk8s.components.component_process import SchedulerOptions, run_scheduler

    end(run_scheduler, SchedulerOptions(**options))


@click.command(short_help="Run the kubelet of this machine, or of simulated nodes.")
@client_flags
@click.option(
    "--adapter",
    type=click.Choice(["docker", "fake"]),
    default="fake",
    show_default=True,
    help="Containers of this machine's Docker engine, or simulated nodes.",
)
@click.option(
    "--nodes",
    type=click.IntRange(0, 5000),
    default=None,
    metavar="N",
    help="The number of simulated nodes (fake only).  [default: 1]",
)
@node_flags
@port_flags
@healthz_port(10248)
@click.option(
    "--cluster-dns",
    default=(),
    multiple=True,
    metavar="ADDRESS",
    help="The name server of pods; 10.96.0.10 leads to `refk8s dns`.  [default: the node's own]",
)
@cluster_domain
def kubelet(**options: Any) -> None:
    """Run the kubelet of this machine's Docker engine, or those of simulated nodes, until
    Ctrl-C."""
    from refk8s.components.listening import is_address

    for address in options["cluster_dns"]:
        if not is_address(address):
            fail(f"--cluster-dns {address}: not an IP address")
    if options["address"] and not is_address(options["address"]):
        fail(f"--address {options['address']}: not an IP address")
    check_node_flags(options)
    from refk8s.components.kubelet_process import KubeletOptions, run_kubelet

    end(run_kubelet, KubeletOptions(**options))


@click.command(short_help="Run the name server of this machine's pods.")
@client_flags
@click.option(
    "--node-name",
    default=None,
    metavar="NAME",
    help="The node whose pods ask.  [default: the name of this machine]",
)
@click.option(
    "--address",
    default=None,
    metavar="ADDRESS",
    help="The node's address in the pods' network.  [default: the first of the range of its pods]",
)
@click.option(
    "--pod-cidr",
    default=None,
    metavar="CIDR",
    help="The range of the node's pods.  [default: podCIDR of the Node]",
)
@cluster_domain
@resolv_conf
@healthz_port(8080)
def dns(**options: Any) -> None:
    """Answer the DNS questions of this machine's pods, until Ctrl-C."""
    from refk8s.components.dns_process import DnsOptions, run_dns

    end(run_dns, DnsOptions(**options))


@click.command(short_help="Run the packet rules of this machine on their own.")
@client_flags
@click.option(
    "--node-name",
    default=None,
    metavar="NAME",
    help="The node of this machine.  [default: the name of this machine]",
)
@click.option(
    "--node-ip",
    default=None,
    metavar="ADDRESS[,ADDRESS]",
    help="The node's InternalIPs: one of IPv4, and perhaps one of IPv6.  [default: the address from which the API server is reached]",
)
@click.option(
    "--pod-cidr",
    default=None,
    metavar="CIDR",
    help="The range of the node's pods.  [default: podCIDR of the Node]",
)
@click.option("--keep", is_flag=True, help="Leave the rules in place when stopped.")
@healthz_port(10256)
def proxy(**options: Any) -> None:
    """Send packets for Services to their pods and enforce network policies, until Ctrl-C."""
    from refk8s.components.proxy_process import ProxyOptions, run_proxy

    end(run_proxy, ProxyOptions(**options))


COMMANDS = (apiserver, controller_manager, scheduler, kubelet, proxy, dns)
