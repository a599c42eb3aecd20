"""All models with their twins."""

from controller_twin import ControllerTwin
from garbage_twin import GarbageTwin
from rollout_twin import RolloutTwin
from store_twin import StoreTwin
from tie import Twin

TWINS: dict[str, type[Twin]] = {twin.model: twin for twin in (StoreTwin, ControllerTwin, RolloutTwin, GarbageTwin)}
