"""The configuration file of the scheduler, and the plugins of other packages that it enables. Rules
SCHED-50, SCHED-56 (spec/scheduler_profiles.md)."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from refk8s.components.files import FILE_BYTES_MAX, CannotRun, read_bounded
from refk8s.components.yaml_reader import BadYaml, read_yaml
from refk8s.core.scheduler.plugin import GROUP, Plugin
from refk8s.core.scheduler_configuration.read import (
    BadConfiguration,
    SchedulerConfiguration,
    read_configuration,
)
from refk8s.core.value import evolve

if TYPE_CHECKING:
    from refk8s.core.loop.loop import Loop


def read_scheduler_file(path: str, flag: str = "--config") -> SchedulerConfiguration:
    """The configuration in the file. Raises CannotRun."""
    try:
        document = read_yaml(read_bounded(path, flag, FILE_BYTES_MAX))
    except BadYaml as error:
        raise CannotRun(f"{flag} {path}: {error}") from None
    if document.duplicates:
        raise CannotRun(f"{flag} {path}: strict decoding error: {', '.join(document.duplicates)}")
    try:
        found = read_configuration(document.tree, find_plugins())
    except BadConfiguration as error:
        raise CannotRun(f"{flag} {path}: {error}") from None
    if not found.extenders:
        return found
    from refk8s.components.extender_calls import with_files

    pairs = zip(found.extenders, found.tls_files, strict=True)
    return evolve(found, extenders=tuple([with_files(one, files) for one, files in pairs]))


def scheduler_parts(found: SchedulerConfiguration) -> "tuple[Loop, dict[str, Any]]":
    """The scheduler of a configuration, and the adapters of its driver. Raises CannotRun."""
    from refk8s.core.scheduler.cycle import scheduler

    adapters: dict[str, Any] = {}
    if found.extenders:
        from refk8s.components.extender_calls import ExtenderCalls

        adapters["runtime"] = ExtenderCalls(found.extenders)
    return scheduler(found.profiles, found.backoff, found.extenders), adapters


def find_plugins() -> dict[str, Callable[[Any], Plugin]]:
    """The entry points of plugins in this Python environment, by name. A plugin is loaded when it
    is made."""
    from importlib.metadata import EntryPoint, entry_points

    def factory(entry: EntryPoint) -> Callable[[Any], Plugin]:
        def make(args: Any) -> Plugin:
            plugin: Plugin = entry.load()(args)
            if plugin.name != entry.name:
                raise ValueError(f"the plugin has another name: {plugin.name!r}")
            return plugin

        return make

    return {entry.name: factory(entry) for entry in entry_points(group=GROUP)}
