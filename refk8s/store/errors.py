"""Errors of opening a store. Each message names the file and the next step."""

from __future__ import annotations


class StoreRefused(Exception):
    """The store cannot be opened. One of the kinds below."""


class StoreUnwritable(StoreRefused):
    """The directory or file does not exist or may not be written."""


class StoreInUse(StoreRefused):
    """Another process has the store open."""


class StoreCorrupt(StoreRefused):
    """The file is not a store, or it is damaged."""


class OtherCluster(StoreRefused):
    """The store belongs to another cluster."""


class OtherSchema(StoreRefused):
    """The store was written by a version of refk8s whose layout this one does not read."""
