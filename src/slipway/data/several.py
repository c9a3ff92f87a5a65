"""Variants of several containers in a gateway: those called by name (direct mode), and pipelines (`data.pipelines`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from slipway.core.models import ModelMoved
from slipway.core.routing import DIRECT, SERIAL, Variant
from slipway.data.counters import VariantCounters
from slipway.data.invoke import GONE, Call
from slipway.data.lanes import DataLimits
from slipway.data.models import Loader, ModelSlots, Nobody
from slipway.data.pipelines import Pipes, SerialSlots
from slipway.data.slots import Slots, VariantSlots


class DirectSlots(VariantSlots):
    """A variant whose containers are called by name: each has lanes, a queue and counters of its own."""

    __slots__ = ("containers",)

    def __init__(self, owner: Slots, variant: Variant, limits: DataLimits) -> None:
        super().__init__(owner, variant, limits)
        self.containers = {
            stage.name: VariantSlots(owner, variant.of_stage(index), limits) for index, stage in enumerate(variant.stages)
        }

    @property
    def waiting(self) -> int:
        return sum(each.waiting for each in self.containers.values())

    @property
    def in_flight(self) -> int:
        return sum(each.in_flight for each in self.containers.values())

    def fits(self, variant: Variant) -> bool:
        return variant.mode == DIRECT and variant.stages == self.variant.stages

    def containers_counters(self) -> Mapping[str, VariantCounters]:
        return {name: each.counters for name, each in self.containers.items()}

    def submit(self, call: Call) -> None:
        """A call that names no container cannot come here: the endpoint has changed since it was looked at."""
        call.failed(GONE)

    def update(self, variant: Variant) -> None:
        self.variant = variant
        for index, each in enumerate(self.containers.values()):
            each.update(variant.of_stage(index))

    def retire(self) -> None:
        self.retired = True
        for each in self.containers.values():
            each.retire()


class GatewaySlots(Slots):
    """All endpoints of the current table, of one container or of several."""

    kinds: Mapping[str, type[VariantSlots]] = {"": VariantSlots, SERIAL: SerialSlots, DIRECT: DirectSlots}

    def __init__(
        self, limits: DataLimits, on_drained: Callable[[], None] | None = None, *, loader: Loader | None = None
    ) -> None:
        """`loader`: has models of multi-model containers loaded; without it (tests) none ever is."""
        super().__init__(limits, on_drained)
        self.pipes = Pipes(limits, self)
        self.loader: Loader = loader or Nobody()

    def make(self, variant: Variant) -> VariantSlots:
        if variant.models is not None:
            return ModelSlots(self, variant, self.limits, self.loader)
        return super().make(variant)

    def model_moved(self, moved: ModelMoved) -> None:
        """Some replica has a newer version of a model."""
        for endpoint in self.endpoints.values():
            if endpoint.multi_model:
                for variant in endpoint.by_name.values():
                    for each in variant.multi_models():
                        each.model_moved(moved)
