"""What can go wrong with an engine that keeps its state somewhere. Each message names the place and
the next step."""

from __future__ import annotations


class StoreUnavailable(Exception):
    """The batch could not be made durable (disk full, input/output error) and nothing of it is in
    effect (STORE-15). Try again later.

    Until then the outcome is unknown, not failed: a crash right after may find some of the batch's
    transactions written.
    """


class StoreRefused(Exception):
    """The store cannot be opened. One of the kinds below."""


class StoreUnwritable(StoreRefused):
    """The directory or file does not exist or may not be written."""


class StoreInUse(StoreRefused):
    """Another process has it open."""


class StoreCorrupt(StoreRefused):
    """The file is no store, or has been damaged."""


class OtherCluster(StoreRefused):
    """The store belongs to another cluster."""


class OtherSchema(StoreRefused):
    """The store was written by a version of refk8s whose layout this one does not read."""
