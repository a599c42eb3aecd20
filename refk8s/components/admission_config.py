"""Reads what `--admission-control-config-file` says. Rules PSA-7 (spec/pod_security.md), QUOTA-9
(spec/quota.md), HOOK-13 (spec/webhooks.md).

Nothing of it is loaded without the flag.
"""

from pathlib import Path
from typing import Any

from refk8s.components.files import CannotRun, read_file
from refk8s.components.webhook_credentials import WebhookCredentials, read_webhook_credentials
from refk8s.core.apiserver.admission.configuration import (
    AdmissionFile,
    BadConfiguration,
    read_admission,
)

FLAG = "--admission-control-config-file"
FILE_BYTES_MAX = 1 << 20


def read_admission_config(path: str) -> tuple[AdmissionFile, dict[str, WebhookCredentials]]:
    """What this file says, and the credentials for mutating and validating webhooks. Raises
    CannotRun, with the flag and the reason."""
    place = Path(path).expanduser().absolute()
    try:
        # as upstream, a path in the file is relative to the file
        found = read_admission(_document(place), lambda name: _document(place.parent / name))
    except BadConfiguration as error:
        raise CannotRun(f"{FLAG} {path}: {error}") from None
    credentials = {
        type_: read_webhook_credentials(kubeconfig, f"{FLAG} {path}")
        for type_, kubeconfig in found.kubeconfigs.items()
    }
    return found, credentials


def _document(path: Path) -> Any:
    from refk8s.components.yaml_reader import BadYaml, read_yaml

    data = read_file(path, FILE_BYTES_MAX)
    if data is None:
        raise CannotRun(f"{FLAG} {path}: there is no such file")
    try:
        return read_yaml(data).tree
    except BadYaml as error:
        raise CannotRun(f"{FLAG} {path}: {error}") from None
