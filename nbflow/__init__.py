"""nbflow: steps are notebook cells, the flow is drawn under the cell and runs on workers anywhere.

Everything here is loaded at first use, so that `import nbflow` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbflow.app import Nbflow as Nbflow
    from nbflow.app import connect as connect
    from nbflow.define.flow import step as step
    from nbflow.define.forms import NOTHING as NOTHING
    from nbflow.define.forms import any_of as any_of
    from nbflow.define.forms import collect as collect
    from nbflow.define.forms import completed as completed
    from nbflow.define.forms import each as each
    from nbflow.define.forms import failed as failed
    from nbflow.errors import Canceled as Canceled
    from nbflow.errors import GiveUp as GiveUp
    from nbflow.errors import NbflowError as NbflowError
    from nbflow.errors import StepFailure as StepFailure
    from nbflow.flow import Flow as Flow
    from nbflow.jobs import job as job
    from nbflow.model.awaits import Approval as Approval
    from nbflow.model.awaits import OnEvent as OnEvent
    from nbflow.model.awaits import Schedule as Schedule
    from nbflow.model.awaits import Time as Time
    from nbflow.model.awaits import Webhook as Webhook
    from nbflow.model.deliveries import Signed as Signed
    from nbflow.model.matching import received as received
    from nbflow.model.policy import Concurrency as Concurrency
    from nbflow.model.policy import Rate as Rate
    from nbflow.model.policy import Retry as Retry
    from nbflow.model.secret import Secret as Secret
    from nbflow.model.triggers import Trigger as Trigger
    from nbflow.notebook.extension import load_ipython_extension as load_ipython_extension
    from nbflow.notebook.extension import unload_ipython_extension as unload_ipython_extension
    from nbflow.views import emit as emit
    from nbflow.views import flows as flows
    from nbflow.views import load as load
    from nbflow.views import queues as queues
    from nbflow.views import run as run
    from nbflow.views import runs as runs
    from nbflow.views import schedules as schedules
    from nbflow.views import start_flow as start_flow
    from nbflow.views import triggers as triggers
    from nbflow.views import workers as workers
    from nbflow.watch.run import Run as Run
    from nbflow.worker.context import Context as Context
    from nbflow.worker.context import current as current

__version__ = "0.1.0"

_HOMES = {
    "Approval": "nbflow.model.awaits",
    "Canceled": "nbflow.errors",
    "Concurrency": "nbflow.model.policy",
    "Context": "nbflow.worker.context",
    "Flow": "nbflow.flow",
    "GiveUp": "nbflow.errors",
    "NOTHING": "nbflow.define.forms",
    "Nbflow": "nbflow.app",
    "NbflowError": "nbflow.errors",
    "Rate": "nbflow.model.policy",
    "OnEvent": "nbflow.model.awaits",
    "Retry": "nbflow.model.policy",
    "Run": "nbflow.watch.run",
    "Schedule": "nbflow.model.awaits",
    "Secret": "nbflow.model.secret",
    "Signed": "nbflow.model.deliveries",
    "StepFailure": "nbflow.errors",
    "Time": "nbflow.model.awaits",
    "Trigger": "nbflow.model.triggers",
    "Webhook": "nbflow.model.awaits",
    "any_of": "nbflow.define.forms",
    "collect": "nbflow.define.forms",
    "completed": "nbflow.define.forms",
    "connect": "nbflow.app",
    "current": "nbflow.worker.context",
    "each": "nbflow.define.forms",
    "emit": "nbflow.views",
    "failed": "nbflow.define.forms",
    "flows": "nbflow.views",
    "job": "nbflow.jobs",
    "load": "nbflow.views",
    "load_ipython_extension": "nbflow.notebook.extension",
    "queues": "nbflow.views",
    "received": "nbflow.model.matching",
    "run": "nbflow.views",
    "runs": "nbflow.views",
    "schedules": "nbflow.views",
    "start_flow": "nbflow.views",
    "step": "nbflow.define.flow",
    "triggers": "nbflow.views",
    "unload_ipython_extension": "nbflow.notebook.extension",
    "workers": "nbflow.views",
}

__all__ = [
    "NOTHING",
    "Approval",
    "Canceled",
    "Concurrency",
    "Context",
    "Flow",
    "GiveUp",
    "Nbflow",
    "NbflowError",
    "OnEvent",
    "Rate",
    "Retry",
    "Run",
    "Schedule",
    "Secret",
    "Signed",
    "StepFailure",
    "Time",
    "Trigger",
    "Webhook",
    "__version__",
    "any_of",
    "collect",
    "completed",
    "connect",
    "current",
    "each",
    "emit",
    "failed",
    "flows",
    "job",
    "load",
    "load_ipython_extension",
    "queues",
    "received",
    "run",
    "runs",
    "schedules",
    "start_flow",
    "step",
    "triggers",
    "unload_ipython_extension",
    "workers",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'nbflow' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    if name in ("Flow", "job"):
        _meet_the_notebook()
    return value


def _meet_the_notebook() -> None:
    """`import nbflow` in a notebook is enough: cells are followed, errors are short, `%nbflow` is there."""
    import sys

    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None:
        from importlib import import_module

        import_module("nbflow.notebook.extension").load_ipython_extension(shell)


def __dir__() -> list[str]:
    return ["__version__", *sorted(_HOMES)]
