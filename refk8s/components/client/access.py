"""Finds the API server of a process: in a kubeconfig, or by the files of a service account. Rule
CLIENT-8 (spec/client.md)."""

import os
from collections.abc import Mapping
from pathlib import Path

from refk8s.components.files import CannotRun, read_file
from refk8s.components.kubeconfig import BYTES_MAX
from refk8s.components.yaml_reader import BadYaml, read_yaml
from refk8s.core.client.kubeconfig import Access, BadKubeconfig, Pem, read_access

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def find_access(path: str | None, context: str, environment: Mapping[str, str]) -> Access:
    """The access of `--kubeconfig` and `--context`; without a file that of $KUBECONFIG, and in a
    pod that of its service account. Raises CannotRun."""
    named = path or environment.get("KUBECONFIG", "").split(os.pathsep)[0]
    if named:
        return read_kubeconfig(Path(named).expanduser().absolute(), context)
    host, port = (
        environment.get("KUBERNETES_SERVICE_HOST", ""),
        environment.get("KUBERNETES_SERVICE_PORT", ""),
    )
    if host and port and (SERVICE_ACCOUNT / "token").exists():
        return Access(
            server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
            authority=Pem(str(SERVICE_ACCOUNT / "ca.crt")),
            token_file=str(SERVICE_ACCOUNT / "token"),
        )
    raise CannotRun("no API server is named: give a kubeconfig with --kubeconfig")


def read_kubeconfig(path: Path, context: str = "") -> Access:
    """The access of a context in this file. Raises CannotRun."""
    content = read_file(path, BYTES_MAX)
    if content is None:
        raise CannotRun(f"there is no {path}: choose another with --kubeconfig")
    try:
        access = read_access(read_yaml(content).tree, context, str(path.parent))
    except (BadKubeconfig, BadYaml) as error:
        why = " ".join(str(error).split())
        raise CannotRun(
            f"{path} cannot be used ({why}): correct it, or choose another with --kubeconfig"
        ) from None
    for pem in (access.authority, access.certificate, access.key):
        if pem.path and not pem.content and not os.access(pem.path, os.R_OK):
            raise CannotRun(
                f"{pem.path}, which {path} names, cannot be read: correct its path or mode"
            )
    return access
