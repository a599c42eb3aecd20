"""The file of the audit log, which is rotated by size. Rule AUDIT-6 (spec/audit.md)."""

import logging
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from refk8s.components.files import CannotRun

log = logging.getLogger("refk8s")

STANDARD_OUTPUT: Final = "-"
_DAY_SECONDS: Final = 86_400
_STAMP: Final = "%Y-%m-%dT%H-%M-%S"


class AuditLog:
    """Lines appended to a file. When it would have more than `bytes_max` bytes, it is renamed, and
    a new one begun; of the old ones at most `backups_max` are kept, for at most `days_max` days.
    0 stands for no bound."""

    def __init__(self, path: str, bytes_max: int, backups_max: int, days_max: int) -> None:
        self.path = Path(path).expanduser().absolute()
        self.bytes_max, self.backups_max, self.days_max = bytes_max, backups_max, days_max
        self.is_output = path == STANDARD_OUTPUT
        self._length = 0
        self._has_failed = False
        self._file = -1
        if not self.is_output:
            try:
                self._open()
            except OSError as error:
                words = f"--audit-log-path {path}: {error.strerror}"
                raise CannotRun(words) from None

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(self.path, flags, 0o600)
        self._length = os.fstat(self._file).st_size

    def write(self, line: bytes) -> None:
        """Append a line. A failure is logged once, and does not fail the request."""
        if self.is_output:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
            return
        try:
            if self.bytes_max and self._length and self._length + len(line) > self.bytes_max:
                self._rotate()
            os.write(self._file, line)
            self._length += len(line)
            self._has_failed = False
        except OSError as error:
            if not self._has_failed:
                log.error("the audit log %s cannot be written: %s", self.path, error.strerror)
            self._has_failed = True

    def _rotate(self) -> None:
        """Rename the file, begin a new one, and remove old ones."""
        os.close(self._file)
        moment = datetime.now(UTC)
        stamp = f"{moment.strftime(_STAMP)}.{moment.microsecond:06d}"
        self.path.rename(self.path.with_name(f"{self.path.stem}-{stamp}{self.path.suffix}"))
        self._open()
        self._remove_old()

    def _remove_old(self) -> None:
        """Remove backups that are too many or too old; the newest are kept."""
        pattern = f"{self.path.stem}-????-??-??T??-??-??.*{self.path.suffix}"
        backups = sorted(self.path.parent.glob(pattern), reverse=True)
        oldest = time.time() - self.days_max * _DAY_SECONDS
        for number, backup in enumerate(backups):
            is_surplus = bool(self.backups_max) and number >= self.backups_max
            if is_surplus or (self.days_max and backup.stat().st_mtime < oldest):
                backup.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
