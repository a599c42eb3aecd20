"""Reads what `--admission-control-config-file` says. Rule PSA-7 (spec/pod_security.md).

Nothing of it is loaded without the flag.
"""

from pathlib import Path
from typing import Any

from refk8s.components.files import CannotRun, read_file
from refk8s.core.apiserver.admission.configuration import BadConfiguration, read_admission
from refk8s.core.apiserver.admission.outcome import PodSecurityConfig

FLAG = "--admission-control-config-file"
FILE_BYTES_MAX = 1 << 20


def read_admission_config(path: str) -> PodSecurityConfig:
    """The configuration of PodSecurity in this file. Raises CannotRun, with the flag and the
    reason."""
    place = Path(path).expanduser().absolute()
    try:
        # as upstream, a path in the file is relative to the file
        return read_admission(_document(place), lambda name: _document(place.parent / name))
    except BadConfiguration as error:
        raise CannotRun(f"{FLAG} {path}: {error}") from None


def _document(path: Path) -> Any:
    from refk8s.components.yaml_reader import BadYaml, read_yaml

    data = read_file(path, FILE_BYTES_MAX)
    if data is None:
        raise CannotRun(f"{FLAG} {path}: there is no such file")
    try:
        return read_yaml(data).tree
    except BadYaml as error:
        raise CannotRun(f"{FLAG} {path}: {error}") from None
