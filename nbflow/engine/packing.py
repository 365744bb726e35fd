"""The code of a flow as it is now, ready to be launched, with that of the flows that its steps may start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nbflow.define import registry
from nbflow.define.bundle import Bundle, make_bundle
from nbflow.define.caching import code_names
from nbflow.define.checked import checked_delay
from nbflow.define.flow import FlowDefinition
from nbflow.define.lint import check_startable
from nbflow.define.plan import compile_plan
from nbflow.define.sources import Project
from nbflow.define.starts import names_started
from nbflow.define.world import undisturbed
from nbflow.engine.deletion import with_retention
from nbflow.engine.launch import Order
from nbflow.engine.options import Options, refuse_late_start
from nbflow.errors import DefinitionError
from nbflow.model.along import Along, Companion
from nbflow.model.signing import Signer
from nbflow.picture.flow_picture import picture_of

__all__ = ["MOST_ALONG", "packed", "started_by"]

MOST_ALONG = 100
"""So many flows a run may bring along."""


@undisturbed()
def packed(
    flow: FlowDefinition,
    options: Options,
    *,
    signer: Signer,
    project: Path,
    retention: str,
    on_bundle: Callable[[Bundle], None] = lambda _: None,
) -> Order:
    """All of an order but its input. DefinitionError if the flow cannot be started, or one of those that it may start."""
    order = _packed(flow, options, signer, project, retention)
    orders = {flow.name: order}
    on_bundle(order.bundle)
    found = started_by(flow, project)
    for other in found:
        if other.name not in orders:
            orders[other.name] = _packed(other, Options(), signer, project, retention)
            on_bundle(orders[other.name].bundle)
    if not found:
        return order
    along = Along.of(_companion(orders[other.name]) for other in found)
    return replace(order, along=along, parcels=tuple(orders[other.name] for other in found))


@undisturbed()
def started_by(flow: FlowDefinition, project: Path) -> list[FlowDefinition]:
    """The flows of this process that its steps may start, and those that these may, as they are defined now."""
    place, found = Project(project), dict[str, FlowDefinition]()
    front = [flow]
    while front:
        names = names_started([step.function for step in front.pop().steps()], place)
        for name in sorted(names - found.keys()):
            other = registry.defined(name)
            if other is not None:
                found[name] = other
                front.append(other)
    if len(found) > MOST_ALONG:
        raise DefinitionError(
            f"The steps of flow {flow.name!r} may start {len(found)} flows, more than {MOST_ALONG}.",
            hint="Publish some of them, and start those by a name that is not written in the code.",
        )
    return list(found.values())


def _packed(flow: FlowDefinition, options: Options, signer: Signer, project: Path, retention: str) -> Order:
    check_startable(flow)
    spec = with_retention(flow.spec(), retention)
    refuse_late_start(flow.name, spec.deadline_s, options)
    specs = {step.name: step for step in spec.steps}
    codes = {step.name: (specs[step.name], step.function, step.key) for step in flow.steps()}
    bundle = make_bundle(flow.name, codes, signer=signer, project=project)
    keys = {step.name: step.key for step in flow.steps()}
    return Order(
        flow.name,
        compile_plan(spec, code_names(spec, bundle.fingerprints, keys, Project(project))),
        bundle,
        {},
        picture_of(spec).to_json(),
        options.key,
        options.tags,
        options.queue,
        options.priority,
        checked_delay(options.delay),
        is_anew=not options.cache,
    )


def _companion(order: Order) -> Companion:
    return Companion(order.flow, order.plan.digest, order.bundle.digest, order.bundle.fingerprints, order.graph)
