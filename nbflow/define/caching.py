"""What the ends of a step's tasks are kept under, beside what they received: a name of all that decides what an execution
comes to and how it is written. Another name is another code, and nothing kept under the old one is taken over.

A step's own code is in its fingerprint. How its end is written depends on the flow around it as well: on its topics, on
who maps over its result, and on the functions that name elements for those. The bodies of other steps do not count.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from nbflow.define.fingerprint import Fingerprints
from nbflow.define.plan import routes
from nbflow.define.sources import Project
from nbflow.model.definition import FlowSpec

__all__ = ["code_names"]

_FORM = 1
"""Another number, when ends are written otherwise."""
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"  # of a pickle in a result


def code_names(
    flow: FlowSpec, fingerprints: Mapping[str, str], keys: Mapping[str, Callable[[Any], Any] | None], project: Project
) -> dict[str, str]:
    """The name of each step with `cache=`; `keys` are the functions that name elements, by the step that has them."""
    cached = [step for step in flow.steps if step.cache_s is not None]
    if not cached:
        return {}
    wanted, prints = routes(flow), Fingerprints(project)
    named = {step: prints.of(key) for step, key in keys.items() if key is not None}
    found: dict[str, str] = {}
    for step in cached:
        route = wanted[step.name]
        by = {topic: [(one, named.get(one, "")) for one in steps] for topic, steps in sorted(route.keyed_by.items())}
        what = [
            _FORM,
            _PYTHON,
            flow.name,
            step.name,
            fingerprints[step.name],
            step.emits,
            route.result,
            route.spread,
            by,
        ]
        found[step.name] = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]
    return found
