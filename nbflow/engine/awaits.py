"""Ending waits from outside: an answer to one task, an event for all that wait for it, and the tokens of answers.

Each is one script, which decides. What is given is checked before it is sent.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from typing import TYPE_CHECKING, Any

from nbflow.define.asked import shown
from nbflow.engine.codecs import Codecs
from nbflow.errors import (
    AlreadyAnswered,
    CommandRefused,
    PayloadError,
    RunEnded,
    SignatureMismatch,
    TrustError,
    UnknownRun,
)
from nbflow.model.awaits import Await, is_event_topic
from nbflow.model.codec import LARGEST_JSON, Codec
from nbflow.model.ids import split_task, step_id
from nbflow.model.runs import run_signature_parts
from nbflow.model.signing import Signer
from nbflow.model.triggers import Firing
from nbflow.model.waiting import Question
from nbflow.store.connect import Store, translated

if TYPE_CHECKING:
    from nbflow.define.bundle import LoadedFlow

__all__ = ["answer", "emit", "event_text", "question_of", "token_of"]

EMIT_WITHOUT_WAITING = 20
"""So many slices of an event for very many tasks are done by who emits it; workers do the rest."""


def answer(store: Store, codecs: Codecs, run: str, question: Question, data: Any, *, by: dict[str, Any]) -> None:
    """End a wait with this answer. CommandRefused if it does not fit what was asked for, AlreadyAnswered if it waits no
    more, RunEnded, UnknownRun: nothing was changed then."""
    if not isinstance(question, Question):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise CommandRefused(f"{shown(question)} is no wait.", hint="Write run.resolve(step, data).")
    reply = store.run_script(
        "resolve",
        id=run,
        job=step_id(run, question.task, question.attempt),
        position=question.position,
        data=_text(_checked(codecs, run, question, data), f"answer to {question.task}"),
        by=json.dumps(by),
        nonce=uuid.uuid4().hex,
    )
    if reply[0] == b"UNKNOWN":
        raise UnknownRun(f"There is no run {run!r}.", hint="nbflow.runs() lists them.")
    if reply[0] == b"ENDED":
        message = f"The run {run[:8]} is {reply[1].decode()}: {question.task!r} waits for no answer any more."
        raise RunEnded(message, hint="Start it again with flow.start(...).")
    if reply[0] == b"GONE":
        message = f"{question.task!r} of the run {run[:8]} waits for no answer any more: somebody was faster, or its time was over."
        raise AlreadyAnswered(message, hint="run.events shows what ended it.")


def _checked(codecs: Codecs, run: str, question: Question, data: Any) -> Any:
    """The answer as the model of the run's own code wants it. Without a form anything is one."""
    if not question.has_form:
        return data
    from nbflow.define.answers import check_answer, plain_answer  # noqa: PLC0415 - loads pydantic

    plain = plain_answer(data)  # by the classes of this process, before those of the run take their place
    return codecs.with_code(run, lambda flow: check_answer(_hold_of(flow, run, question), question.task, plain))


def _hold_of(flow: LoadedFlow, run: str, question: Question) -> Await:
    step = flow.steps.get(split_task(question.task)[0])
    hold = None if step is None else step.spec.hold if question.position == "before" else step.spec.hold_emits
    if hold is None:
        raise SignatureMismatch(
            f"The signed code of the run {run[:8]} asks for nothing at {question.task!r}.",
            hint="Somebody else wrote this wait; look who has access to the server.",
        )
    return hold


def emit(store: Store, signer: Signer, topic: str, payload: Any) -> tuple[int, str]:
    """Tell all that wait for an event of this topic, and keep it for those who look back. How many it resolved by now, and
    its id if a trigger has flows to start for it."""
    event = Firing(uuid.uuid4().hex, topic, event_text(topic, payload))
    named = {"topic": topic, "payload": event.payload, "nonce": event.id, "sig": event.sign(signer)}
    resolved, more, fired = store.run_script("emit", **named)
    with translated(store.url):
        for _ in range(EMIT_WITHOUT_WAITING if more else 0):
            if not store.run_script("slice"):
                break
    return int(resolved), event.id if fired else ""


def event_text(topic: str, payload: Any) -> str:
    """The payload of an event as it is sent. CommandRefused for what is no topic, PayloadError for what cannot travel."""
    if not is_event_topic(topic):
        raise CommandRefused(
            f"No event has the topic {topic!r}.", hint="Use dotted words of letters, digits, '_' and '-': 'order.paid'."
        )
    return _text(payload, "payload")


def _text(value: Any, name: str) -> str:
    """A value that lies in events: whole, for a script reads it, and no artifact, for no run owns it."""
    try:
        text = Codec().encode(value, name=name)
    except TrustError as error:  # it would have to travel as a pickle
        raise PayloadError(
            f"The {name} is no plain data: {error.message}", hint="Send text, numbers, lists and dicts."
        ) from error
    if len(text.encode()) > LARGEST_JSON:
        message = f"The {name} is longer than {LARGEST_JSON // 1024} KiB."
        raise PayloadError(message, hint="Put the data elsewhere, and send where it lies.")
    return text


def token_of(signature: str, run: str, question: Question) -> str:
    """The token of a wait, as `parts/awaits.lua` makes it from the signature of its run."""
    what = f"{step_id(run, question.task, question.attempt)}.{question.position}"
    return f"{run}.{what}.{_mark(signature, what)}"


def question_of(store: Store, signer: Signer, token: str) -> tuple[str, Question]:
    """The run and the wait that a token is for. TrustError if nobody with our secret made it, UnknownRun if its run is gone,
    AlreadyAnswered if it waits no more (also when its run is over)."""
    run, job, position, mark = ([*token.split("."), "", "", "", ""])[:4]
    names = ("flow", "plan", "bundle", "inputdigest", "queue", "sig")
    with translated(store.url):
        text: Any = store.text
        facts = dict(zip(names, text.hmget(store.keys.run(run), names), strict=True))
        task, attempt, held, status = text.hmget(store.keys.rq_job(job), "task", "attempt", "hold", "status")
    if facts["sig"] is None:
        raise UnknownRun("There is no run of this token (any more).", hint="It was deleted, or the token is cut off.")
    parts = run_signature_parts(
        run, facts["flow"], plan=facts["plan"], bundle=facts["bundle"], input_digest=facts["inputdigest"],
        queue=facts["queue"] or "",
    )  # fmt: skip
    is_ours = signer.verify(facts["sig"], *parts)
    if not is_ours or not hmac.compare_digest(_mark(facts["sig"], f"{job}.{position}").encode(), mark.encode()):
        raise SignatureMismatch("The token is not one of ours.", hint="Use it as it was sent, with nothing cut off.")
    if status != "deferred" or held != position or not task:
        raise AlreadyAnswered("This token was used, or its time is over.", hint="Each token is good for one answer.")
    return run, Question(task, int(attempt), position, has_form=True)


def _mark(signature: str, what: str) -> str:
    inner = hashlib.sha1(f"{signature}{what}".encode(), usedforsecurity=False).hexdigest()
    return hashlib.sha1(f"{signature}{inner}".encode(), usedforsecurity=False).hexdigest()
