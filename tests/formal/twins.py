"""All models with their twins."""

from controller_twin import ControllerTwin
from garbage_twin import GarbageTwin
from nodes_twin import NodesTwin
from rollout_twin import RolloutTwin
from scheduler_twin import SchedulerTwin
from store_twin import StoreTwin
from tie import Twin

ALL: tuple[type[Twin], ...] = (
    StoreTwin,
    ControllerTwin,
    RolloutTwin,
    SchedulerTwin,
    NodesTwin,
    GarbageTwin,
)
TWINS: dict[str, type[Twin]] = {twin.model: twin for twin in ALL}
