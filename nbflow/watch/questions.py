"""Which wait of a run is meant by a step, a task or a key; and why there is none."""

from __future__ import annotations

from nbflow.errors import AlreadyAnswered, CommandRefused, RunEnded, nearest
from nbflow.model.view import TaskView, View
from nbflow.model.waiting import Question

__all__ = ["question_of", "tasks_of"]


def question_of(view: View, name: str) -> Question:
    """The wait of a step (`pay`), or of one of its tasks (`pay[3]`, `pay[b.csv]`)."""
    if view.ended:
        raise RunEnded(
            f"The run {view.run_id[:8]} is {view.status}: {name!r} waits for no answer any more.",
            hint="Start it again with flow.start(...).",
        )
    found = tasks_of(view, name)
    waiting = [task for task in found if task.awaiting]
    if not waiting:
        raise _waits_not(view, name, found)
    if len(waiting) > 1:
        names = ", ".join(task.task for task in waiting[:4]) + (", …" if len(waiting) > 4 else "")
        raise CommandRefused(f"{len(waiting)} tasks of {name!r} wait for an answer.", hint=f"Name one: {names}.")
    told = waiting[0].awaiting
    if told.get("kind") == "child":
        raise CommandRefused(
            f"{waiting[0].task!r} waits for {waiting[0].waits_for}, and for no answer.",
            hint="Wait for that run, or cancel it: the attempt has failed then.",
        )
    return Question(waiting[0].task, int(told["attempt"]), str(told.get("position", "")), "form" in told)


def tasks_of(view: View, name: str) -> list[TaskView]:
    """The task of that name or key (`pay[3]`, `pay[b.csv]`), or all tasks of a step."""
    if name in view.tasks:
        return [view.tasks[name]]
    step, has_key, _ = name.partition("[")
    of_step = [task for task in view.tasks.values() if task.step == step]
    return [task for task in of_step if task.key and name == f"{step}[{task.key}]"] if has_key else of_step


def _waits_not(view: View, name: str, found: list[TaskView]) -> CommandRefused:
    waiting = [task.task for task in view.tasks.values() if task.awaiting]
    hint = f"Waiting: {', '.join(waiting[:8])}." if waiting else "Nothing of the run waits for an answer."
    if len(found) == 1:
        task = found[0]
        ended = " Its wait was ended already." if task.answered else ""
        return AlreadyAnswered(f"{task.task!r} waits for no answer: it is {task.status}.{ended}", hint=hint)
    if found:
        return AlreadyAnswered(f"No task of {name!r} waits for an answer.", hint=hint)
    known = {*view.steps, *view.tasks}
    return CommandRefused(f"Nothing called {name!r} is there in the run yet.", hint=nearest(name, known) or hint)
