"""The route table's entry of an endpoint, from what was decided and what the keeper says of its instances."""

from __future__ import annotations

from slipway.control.endpoints_look import Look
from slipway.control.instances import Instances
from slipway.core import routing
from slipway.core.deployments import VariantSpec
from slipway.core.endpoints import Route, RoutedVariant
from slipway.store.resources import ReplicaRow


def entry(look: Look, route: Route, instances: Instances) -> routing.Endpoint:
    """The table's entry; addresses are those of now."""
    variants = []
    for routed in route:
        found = [_replica(instances, look.rows[id]) for id in routed.replicas if id in look.rows]
        replicas = tuple(replica for replica in found if replica is not None)
        number = next((look.rows[r.id].generation for r in replicas), look.deployment.number)
        known = {v.name: v for v in look.of(number).variants}
        variants.append(_routed(routed, replicas, known.get(routed.variant)))
    numbers = {look.rows[r.id].generation for v in variants for r in v.replicas}
    fleet_number = min(numbers, default=(look.reached.serving or look.deployment).number)
    options = look.of(fleet_number).asynchronous
    row, transform = look.row, look.deployment.transform
    return routing.Endpoint(row.account, row.region, row.name, tuple(variants), options, transform)


def _replica(instances: Instances, row: ReplicaRow) -> routing.Replica | None:
    """The table's word on an instance, if the keeper has all of it."""
    states = instances.states(row.id)
    if any(state is None for state in states):
        return None
    parts = [routing.Container(state.protocol, tuple(state.workers)) for state in states if state is not None]
    if len(parts) > 1:
        return routing.Replica(row.id, row.spec["instance"], "", (), tuple(parts))
    return routing.Replica(row.id, row.spec["instance"], parts[0].protocol, parts[0].workers)


def _routed(routed: RoutedVariant, replicas: tuple[routing.Replica, ...], spec: VariantSpec | None) -> routing.Variant:
    if spec is None:
        return routing.Variant(routed.variant, routed.weight, replicas)
    return routing.Variant(
        routed.variant,
        routed.weight,
        replicas,
        least_outstanding=spec.least_outstanding,
        mode=spec.mode,
        stages=tuple(routing.Stage(each.name, each.models) for each in spec.containers),
        models=spec.models,
    )
