"""Kubeconfigs of the controller manager and the scheduler with their own certificates. Rule PROC-21
(spec/processes.md).

Source: kubeadm documentation, "Implementation details" (kubeconfig files for control plane
components).
"""

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from refk8s.components import certificates
from refk8s.components.certificates import Pair
from refk8s.components.credentials import Credentials
from refk8s.components.files import read_file, write_file

COMPONENTS: Final = {
    "controller-manager": "system:kube-controller-manager",
    "scheduler": "system:kube-scheduler",
}
"""The name of the file, and the user."""


def write_component_kubeconfigs(
    directory: Path, own_pki: Path, server: str, credentials: Credentials
) -> None:
    """Write `controller-manager.kubeconfig` and `scheduler.kubeconfig` to the directory. A
    certificate is kept while the server accepts it."""
    now = datetime.now(UTC)
    for name, user in COMPONENTS.items():
        pair = Pair(own_pki / f"{name}.crt", own_pki / f"{name}.key")
        ours = Pair(credentials.certificate, credentials.key)
        if certificates.problem_of_client(pair, ours, credentials.authority, user, "", now):
            key = certificates.make_key()
            authority_key = read_file(credentials.authority_key)
            assert authority_key is not None, "it was checked"
            write_file(pair.key, key)
            made = certificates.make_client(key, authority_key, user, "", now)
            write_file(pair.certificate, made)
        text = _kubeconfig(server, user, credentials.authority, pair)
        write_file(directory / f"{name}.kubeconfig", text.encode())


def _kubeconfig(server: str, user: str, authority: Path, pair: Pair) -> str:
    def encoded(path: Path) -> str:
        return base64.b64encode(read_file(path) or b"").decode()

    return f"""apiVersion: v1
kind: Config
current-context: refk8s
clusters:
- name: refk8s
  cluster:
    server: {server}
    certificate-authority-data: {encoded(authority)}
users:
- name: {user}
  user:
    client-certificate-data: {encoded(pair.certificate)}
    client-key-data: {encoded(pair.key)}
contexts:
- name: refk8s
  context:
    cluster: refk8s
    user: {user}
"""
