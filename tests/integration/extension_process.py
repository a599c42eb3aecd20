"""A running extension API server for the tests, with the objects by which a cluster knows it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import FakeCluster, until
from webhook_process import Authority

NAMESPACE, SERVICE, PORT = "wardle", "api", 7443
HOST = f"{SERVICE}.{NAMESPACE}.svc"
GROUP, VERSION = "wardle.example.com", "v1alpha1"
NAME = f"{VERSION}.{GROUP}"
ROOT = f"/apis/{GROUP}/{VERSION}"
API_SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
AUTHENTICATION = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"


def own_address() -> str:
    """An address of this machine that endpoints may have."""
    found = subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split()
    addresses = [one for one in found if "." in one]
    return addresses[0] if addresses else pytest.skip("this machine has no address")


class ExtensionServer:
    """A process that believes the certificate which the cluster publishes."""

    def __init__(self, directory: Path, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.authority = Authority()
        files = self.authority.issue(directory, HOST)
        code, published = cluster.call("GET", AUTHENTICATION)
        assert code == 200, published
        proxy = directory / "proxy.crt"
        proxy.write_text(published["data"]["requestheader-client-ca-file"])
        port_file, self._mode = directory / "port", directory / "mode"
        script = str(Path(__file__).with_name("extension_server.py"))
        command = [sys.executable, script, *map(str, (*files, proxy, port_file, self._mode))]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        until(lambda: port_file.exists() and port_file.read_text(), "the extension server runs")
        self.port = int(port_file.read_text())

    def behave(self, mode: str = "") -> None:
        """Let it fail in this way, or not."""
        self._mode.write_text(mode)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    # --- the cluster's objects

    def serve(self) -> None:
        """Create the namespace, the service and its endpoints."""
        cluster = self.cluster
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        assert cluster.call("POST", "/api/v1/namespaces", namespace)[0] == 201
        self.add_service()
        self.add_endpoints()

    def add_service(self, port: int = PORT) -> None:
        spec = {"ports": [{"port": port, "targetPort": self.port}]}
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": SERVICE},
            "spec": spec,
        }
        path = f"/api/v1/namespaces/{NAMESPACE}/services"
        assert self.cluster.call("POST", path, service)[0] == 201

    def add_endpoints(self) -> None:
        body = {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "api-1", "labels": {"kubernetes.io/service-name": SERVICE}},
            "endpoints": [{"addresses": [own_address()]}], "ports": [{"port": self.port, "name": ""}],
        }  # fmt: skip
        path = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
        assert self.cluster.call("POST", path, body)[0] == 201

    def api_service(self, **spec: Any) -> dict[str, Any]:
        """The APIService that names this server."""
        service = {"namespace": NAMESPACE, "name": SERVICE, "port": PORT}
        given = {"group": GROUP, "version": VERSION, "service": service, "caBundle": self.authority.bundle}  # fmt: skip
        return {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": NAME},
            "spec": {**given, "groupPriorityMinimum": 2000, "versionPriority": 200, **spec},
        }

    def register(self, **spec: Any) -> None:
        """Create the APIService anew."""
        self.cluster.call("DELETE", f"{API_SERVICES}/{NAME}")
        code, answer = self.cluster.call("POST", API_SERVICES, self.api_service(**spec))
        assert code == 201, answer

    def condition(self) -> tuple[str, str, str]:
        """Status, reason and message of the condition Available."""
        _, found = self.cluster.call("GET", f"{API_SERVICES}/{NAME}")
        for one in found.get("status", {}).get("conditions", ()):
            if one["type"] == "Available":
                return one["status"], one["reason"], one["message"]
        return "", "", ""

    def wait(self, reason: str) -> str:
        """Wait until the condition has this reason; its message."""
        until(lambda: self.condition()[1] == reason, f"the condition is {reason}", 40)
        return self.condition()[2]
