"""Reads a KubeSchedulerConfiguration. Rules SCHED-50, SCHED-54 (spec/scheduler_profiles.md).

Whatever cannot be followed is refused, with the field and upstream's reason. Source: Kubernetes
documentation, "Scheduler Configuration"; kube-scheduler configuration (v1), and what
kube-scheduler answers.
"""

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from refk8s.core.api import codec
from refk8s.core.apiserver.validation.field import Causes, duplicate, forbidden, invalid, required
from refk8s.core.context import SECOND
from refk8s.core.scheduler.arguments import DEFAULT_ARGUMENTS, Arguments
from refk8s.core.scheduler.extenders import Extender
from refk8s.core.scheduler.needs import DEFAULT_SCHEDULER
from refk8s.core.scheduler.plugin import POINTS, ExternalPlugins, Plugin, implemented_by
from refk8s.core.scheduler.profile import DEFAULT_PROFILE, Profile, make_profile
from refk8s.core.scheduler.queue import DEFAULT_BACKOFF, Backoff
from refk8s.core.scheduler_configuration import extenders, profiles
from refk8s.core.scheduler_configuration.arguments import READERS, lines
from refk8s.core.scheduler_configuration.extenders import TlsFiles
from refk8s.core.scheduler_configuration.types import (
    ARGS,
    GROUP_VERSION,
    KIND,
    ClientConnection,
    KubeSchedulerConfiguration,
    LeaderElection,
    PluginConfig,
    Plugins,
    ProfileRecord,
)
from refk8s.core.value import Value, evolve

PROFILES_MAX = 64
SECONDS_MAX = 7 * 24 * 3600
REMOVED = ("AzureDiskLimits", "CinderLimits", "EBSLimits", "GCEPDLimits")
"""Plugins of earlier versions of upstream."""

Factories = Mapping[str, Callable[[Any], Plugin]]
"""Plugins of other packages by name: each makes the plugin from its arguments in the file."""


class BadConfiguration(ValueError):
    """The configuration cannot be used. The message names the fields and the reasons."""


class SchedulerConfiguration(Value, frozen=True, eq=False):
    """What the configuration file of the scheduler sets."""

    profiles: tuple[Profile, ...] = (DEFAULT_PROFILE,)
    backoff: Backoff = DEFAULT_BACKOFF
    extenders: tuple[Extender, ...] = ()
    tls_files: tuple[TlsFiles, ...] = ()  # of each extender
    leader_election: LeaderElection = LeaderElection()
    client_connection: ClientConnection = ClientConnection()


def read_configuration(tree: Any, factories: Factories) -> SchedulerConfiguration:
    """The configuration of a document. Raises BadConfiguration."""
    if not isinstance(tree, dict):
        raise BadConfiguration(f"must be a document of kind {KIND}, {GROUP_VERSION}")
    kind, version = tree.get("kind"), tree.get("apiVersion")
    if (kind, version) != (KIND, GROUP_VERSION):
        raise BadConfiguration(
            f'no kind "{kind}" is registered for version "{version}": must be {KIND}, '
            f"{GROUP_VERSION}"
        )
    file: KubeSchedulerConfiguration = _decode(KubeSchedulerConfiguration, tree, "")
    wrong, made = _check(file), []
    records = _named(file.profiles)
    for number, record in enumerate(records):
        errors, arguments, given = _arguments(record, f"profiles[{number}]", factories)
        wrong += errors
        made.append((record, arguments, given))
    _refuse([*wrong, *lines(_check_queue_sort(records))])
    ignored = extenders.ignored(file.extenders)
    return SchedulerConfiguration(
        tuple(
            [
                _profile(record, _ignoring(arguments, ignored), given)
                for record, arguments, given in made
            ]
        ),
        _backoff(file),
        tuple([extenders.extender_of(one) for one in file.extenders]),
        tuple([extenders.files_of(one) for one in file.extenders]),
        file.leader_election or LeaderElection(),
        file.client_connection or ClientConnection(),
    )


def _refuse(errors: list[str]) -> None:
    if errors:
        raise BadConfiguration(errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]")


def _decode(type_: type, tree: Any, where: str) -> Any:
    try:
        decoded = codec.decode_tree(type_, tree)
    except codec.DecodeError as error:
        raise BadConfiguration(f"{where}{error}") from None
    if decoded.warnings:
        raise BadConfiguration(f"{where}{decoded.strict_error}")
    return decoded.object


def _named(records: tuple[ProfileRecord, ...]) -> tuple[ProfileRecord, ...]:
    """The profiles; without any there is one, and a single one has the default name."""
    records = records or (ProfileRecord(),)
    if len(records) == 1 and records[0].scheduler_name is None:
        return (replace(records[0], scheduler_name=DEFAULT_SCHEDULER),)
    return records


# --- checks ---------------------------------------------------------------------------------------


def _check(file: KubeSchedulerConfiguration) -> list[str]:
    causes: Causes = []
    if file.parallelism is not None and file.parallelism <= 0:
        words = "should be an integer value greater than zero"
        causes.append(invalid("parallelism", file.parallelism, words))
    election = file.leader_election or LeaderElection()
    if election.resource_lock not in ("", "leases"):
        here, words = "leaderElection.resourceLock", 'resourceLock value must be "leases"'
        causes.append(invalid(here, election.resource_lock, words))
    causes += _check_profiles(file)
    causes += _check_percentage(file.percentage_of_nodes_to_score, "percentageOfNodesToScore")
    first, most = file.pod_initial_backoff_seconds, file.pod_max_backoff_seconds
    first, most = 1 if first is None else first, 10 if most is None else most
    if not 0 < first <= SECONDS_MAX:
        words = "must be greater than 0" if first <= 0 else f"must be at most {SECONDS_MAX}"
        causes.append(invalid("podInitialBackoffSeconds", first, words))
    if most < first:
        words = "must be greater than or equal to PodInitialBackoffSeconds"
        causes.append(invalid("podMaxBackoffSeconds", most, words))
    causes += extenders.check(file.extenders)
    if file.delay_cache_until_active:
        causes.append(forbidden("delayCacheUntilActive", "a candidate watches from its start"))
    return lines(causes)


def _check_profiles(file: KubeSchedulerConfiguration) -> Causes:
    causes: Causes = []
    seen: list[str] = []
    if len(file.profiles) > PROFILES_MAX:
        causes.append(invalid("profiles", len(file.profiles), f"at most {PROFILES_MAX} profiles"))
    for number, record in enumerate(_named(file.profiles)):
        at, name = f"profiles[{number}]", record.scheduler_name or ""
        if not name:
            causes.append(required(f"{at}.schedulerName"))
        causes += _check_percentage(
            record.percentage_of_nodes_to_score, f"{at}.percentageOfNodesToScore"
        )
        if record.plugins is not None:
            causes += _check_removed(record.plugins, f"{at}.plugins")
        if name in seen:
            other = f"profiles[{seen.index(name)}].schedulerName"
            causes.append(duplicate(f"{at}.schedulerName", other))
        seen.append(name)
    return causes


def _check_percentage(percentage: int | None, at: str) -> Causes:
    if percentage is None or 0 <= percentage <= 100:
        return []
    return [invalid(at, percentage, "not in valid range [0-100]")]


def _was_removed(at: str, name: str) -> Causes:
    words = (
        f'was invalid in version "{GROUP_VERSION}" (KubeSchedulerConfiguration is version '
        f'"{GROUP_VERSION}")'
    )
    return [invalid(at, name, words)]


def _check_removed(plugins: Plugins, at: str) -> Causes:
    causes: Causes = []
    for point in profiles.EXTENSION_POINTS:
        chosen = getattr(plugins, point)
        words = point.split("_")
        here = words[0] + "".join([word.capitalize() for word in words[1:]])
        for number, one in enumerate(chosen.enabled if chosen is not None else ()):
            if one.name in REMOVED:
                causes += _was_removed(f"{at}.{here}.enabled[{number}]", one.name)
    return causes


def _check_queue_sort(records: tuple[ProfileRecord, ...]) -> Causes:
    causes: Causes = []
    sorts = [one.plugins.queue_sort if one.plugins is not None else None for one in records]
    if sorts[0] is not None and len(sorts[0].enabled) > 1:
        here = "profiles[0].plugins.queueSort.Enabled"
        causes.append(
            invalid(here, len(sorts[0].enabled), "only one queue sort plugin can be enabled")
        )
    for number, each in enumerate(sorts):
        if each != sorts[0]:
            here = f"profiles[{number}].plugins.queueSort"
            causes.append(invalid(here, each, "must be the same for all profiles"))
    return causes


# --- profiles -------------------------------------------------------------------------------------


def _arguments(
    record: ProfileRecord, at: str, factories: Factories
) -> tuple[list[str], Arguments, dict[str, Plugin]]:
    """The arguments of the plugins, and the plugins of other packages that have arguments; with
    what is wrong."""
    errors: list[str] = []
    arguments = DEFAULT_ARGUMENTS
    made: dict[str, Plugin] = {}
    seen: set[str] = set()
    for number, config in enumerate(record.plugin_config):
        here, name = f"{at}.pluginConfig[{number}]", config.name
        if name in seen:
            errors += lines([duplicate(here, name)])
        seen.add(name)
        if name in REMOVED:
            errors += lines(_was_removed(here, name))
        elif name in READERS:
            args = _decode_args(config, f"decoding .{here}: ")
            causes, arguments = READERS[name](args, f"{here}.args", arguments)
            errors += lines(causes)
        elif name in factories:
            made[name] = _make(factories, name, config.args)
        elif config.args:
            errors.append(f"{here}: plugin {name} has no arguments here")
    enabled = {
        one.name
        for point in (*profiles.EXTENSION_POINTS, "multi_point")
        if record.plugins is not None and (chosen := getattr(record.plugins, point)) is not None
        for one in chosen.enabled
    }
    for name in sorted(enabled & set(factories) - set(made)):
        made[name] = _make(factories, name, None)
    return errors, arguments, {name: one for name, one in made.items() if name in enabled}


def _decode_args(config: PluginConfig, where: str) -> Any:
    name, args = config.name, config.args
    wanted = f"{name}Args"
    kind = args.get("kind", wanted) if isinstance(args, dict) else wanted
    if kind != wanted:
        raise BadConfiguration(
            f"{where}args for plugin {name} were not of type {GROUP_VERSION}, Kind={wanted}, got "
            f"{kind}"
        )
    version = args.get("apiVersion", GROUP_VERSION) if isinstance(args, dict) else GROUP_VERSION
    if version != GROUP_VERSION:
        raise BadConfiguration(
            f'{where}decoding args for plugin {name}: no kind "{kind}" is registered for version '
            f'"{version}"'
        )
    return _decode(ARGS[name], args or {}, f"{where}decoding args for plugin {name}: ")


def _make(factories: Factories, name: str, args: Any) -> Plugin:
    try:
        return factories[name](args)
    except Exception as error:  # of another package: its message is for the user
        raise BadConfiguration(f'initializing plugin "{name}": {error}') from None


def _profile(record: ProfileRecord, arguments: Arguments, given: dict[str, Plugin]) -> Profile:
    name = record.scheduler_name or ""
    try:
        merged = profiles.merge(record.plugins)
        implemented = {each: implemented_by(plugin) for each, plugin in given.items()}
        enabled = profiles.expand(merged, implemented)
        weights = profiles.weights_of(merged, enabled)
        profiles.check(enabled, name)
    except profiles.BadProfile as error:
        raise BadConfiguration(
            f"initializing profiles: creating profile for scheduler name {name}: {error}"
        ) from None
    filters = profiles.filters_of(enabled)
    return make_profile(
        name,
        filters,
        profiles.scores_of(enabled, weights),
        arguments,
        "DefaultPreemption" in enabled["post_filter"],
        _plugins(enabled, given),
        "DynamicResources" in enabled["post_filter"],
    )


def _plugins(enabled: profiles.Enabled, given: Mapping[str, Any]) -> ExternalPlugins:
    """The plugins of other packages by extension point."""
    binders = enabled["bind"]
    default = "DefaultBinder"
    has_default = default in binders
    order = {**enabled, "bind": binders[: binders.index(default)] if has_default else binders}
    found = {
        point: tuple([given[each] for each in order[point] if each in given]) for point in POINTS
    }
    return ExternalPlugins(**found, has_default_binder=has_default)


def _ignoring(arguments: Arguments, ignored: tuple[str, ...]) -> Arguments:
    """The arguments, without checks of the resources that extenders manage alone (SCHED-57)."""
    if not ignored:
        return arguments
    return evolve(arguments, ignored_resources=(*arguments.ignored_resources, *ignored))


def _backoff(file: KubeSchedulerConfiguration) -> Backoff:
    first, most = file.pod_initial_backoff_seconds, file.pod_max_backoff_seconds
    return Backoff(
        (1 if first is None else first) * SECOND,
        min(10 if most is None else most, SECONDS_MAX) * SECOND,
    )
