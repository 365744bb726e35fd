"""Published versions: started by name, without their code at hand, and rolled back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydantic
import pytest

import nbflow as nf
from nbflow import Approval, Flow, job
from nbflow.app import Nbflow
from nbflow.define import registry
from nbflow.errors import CommandRefused, DefinitionError, InputInvalid, SignatureMismatch, UnknownFlow
from nbflow.flow import LaunchDisabled, launches_disabled
from nbflow.model.versions import KEPT, Version
from tests.bad_input import nothing_written, private_site, refused
from tests.leaks import leaks
from tests.site import Site, wait_until


class Decision(pydantic.BaseModel):
    ok: bool


def doubled(flow: Flow, by: int = 2) -> Flow:
    @flow.entry(name="double")
    def double(n: int = 1) -> int:
        return n * by

    return flow


def forgotten(flow: Flow) -> str:
    """The flow as another program knows it: by its name only."""
    for step in flow.steps():
        registry.forget(flow.name, step.name)
    return flow.name


def test_a_published_flow_is_started_by_name_without_its_code(site: Site):
    flow = doubled(site.flow())
    version = flow.publish(note="the first")
    assert (version.number, version.note) == (1, "the first")
    name = forgotten(flow)
    run = nf.start_flow(name, {"n": 21}).wait(20)
    assert (run.result, run.version) == (42, 1)
    assert nf.start_flow(name).wait(20).result == 2


def test_code_at_hand_has_no_version(site: Site):
    assert doubled(site.flow()).start(n=1).wait(20).version is None


def test_the_newest_version_is_started_and_a_run_stays_on_its_own(site: Site):
    flow = doubled(site.flow())
    flow.publish()
    doubled(flow, 3).publish("threefold")
    assert nf.start_flow(flow.name, {"n": 1}).wait(20).result == 3
    first = nf.start_flow(flow.name, {"n": 1}, version=1).wait(20)
    assert (first.result, first.version) == (2, 1)


def test_publishing_the_same_code_again_changes_nothing(site: Site):
    flow = doubled(site.flow())
    assert flow.publish().number == 1
    assert flow.publish("said again").number == 1
    assert doubled(flow).publish().number == 1  # the cell ran again
    assert list(flow.versions()["note"]) == [""]


def test_an_earlier_version_published_again_is_the_newest(site: Site):
    flow = doubled(site.flow())
    flow.publish("twofold")
    doubled(flow, 3).publish("threefold")
    again = flow.publish(version=1)
    assert (again.number, again.again, again.note) == (3, 1, "twofold")
    assert nf.start_flow(flow.name, {"n": 1}).wait(20).result == 2
    assert flow.publish(version=1).number == 3
    table = flow.versions()
    assert list(table["version"]) == [3, 2, 1]
    assert list(table["again"].fillna(0)) == [1, 0, 0]
    assert next(iter(table["steps"])) == ["double"]


def test_the_input_of_a_start_by_name_is_validated_by_the_code_that_will_run(site: Site):
    name = forgotten_version(site)
    with refused(InputInvalid, "'n'"):
        nf.start_flow(name, {"n": "many"})
    with refused(InputInvalid, "no input 'm'"):
        nf.start_flow(name, {"m": 1})


def forgotten_version(site: Site) -> str:
    flow = doubled(site.flow())
    flow.publish()
    return forgotten(flow)


def test_options_count_for_a_start_by_name(site: Site):
    name = forgotten_version(site)
    run = nf.start_flow(name, {"n": 2}, key="once", tags=["by-name"])
    assert nf.start_flow(name, {"n": 2}, key="once") == run
    assert list(site.nbflow.runs(name, tag="by-name")["id"]) == [run.id]


def test_a_job_is_started_by_name(site: Site):
    name = site.flow().name

    @job(name=name)
    def resize(path: str, width: int = 800) -> str:
        return f"{path}@{width}"

    resize.flow.publish()
    forgotten(resize.flow)
    assert nf.start_flow(name, {"path": "cat.png", "width": 4}).wait(20).result == "cat.png@4"


def test_an_entry_that_is_held_is_started_by_name_without_the_answer(site: Site):
    flow = site.flow()

    @flow.entry(hold=Approval(Decision))
    def ask(decision: Decision, n: int = 1) -> tuple[bool, int]:
        return decision.ok, n

    flow.publish()
    run = nf.start_flow(forgotten(flow), {"n": 2})
    wait_until(lambda: run.status == "awaiting", what=lambda: str(run.tasks))
    assert run.resolve("ask", {"ok": True}).wait(20, progress=False).result == (True, 2)


def test_what_is_no_input_no_version_and_no_note_is_refused(site: Site):
    flow = doubled(site.flow())
    anything: Any = 5
    with refused(DefinitionError, "note", "5"):
        flow.publish(anything)
    assert len(flow.versions()) == 0
    flow.publish()
    text: Any = "1"
    for act in (lambda: nf.start_flow(flow.name, version=text), lambda: flow.publish(version=text)):
        with refused(DefinitionError, "version='1'", "whole number"):
            act()
    for act in (
        lambda: nf.start_flow(flow.name, anything),
        lambda: flow.schedule("1h", input=anything),
    ):
        with refused(InputInvalid, "is 5, and not values by name", "{'n': ...}"):
            act()
    with refused(CommandRefused, "a list of inputs, each a dict, and not 5"):
        flow.start_many([anything])
    assert len(site.nbflow.index.runs(flow=flow.name)) == 0


def test_what_is_not_published_is_refused_with_what_is_near(site: Site):
    flow = doubled(site.flow())
    with refused(UnknownFlow, "No flow is published as"):
        nf.start_flow(flow.name)
    flow.publish()
    with refused(UnknownFlow, "Did you mean", flow.name):
        nf.start_flow(flow.name[:-1] + "é")
    with refused(CommandRefused, "has no version 7", "1 to 1"):
        nf.start_flow(flow.name, version=7)
    with refused(CommandRefused, "has no version 7"):
        flow.publish(version=7)


def test_where_flows_are_only_read_nothing_is_published_or_started(site: Site):
    flow = doubled(site.flow())
    with launches_disabled():
        for act in (flow.publish, lambda: nf.start_flow(flow.name)):
            with pytest.raises(LaunchDisabled):
                act()
    assert len(flow.versions()) == 0


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Nbflow]:
    with private_site(tmp_path) as site:
        yield site.nbflow


def test_a_flow_that_cannot_start_is_not_published(alone: Nbflow):
    with nothing_written(alone), refused(DefinitionError, "no steps yet"):
        alone.publish(Flow("lonely"))


def test_an_unpublished_flow_leaves_no_key(alone: Nbflow):
    flow = doubled(Flow("gone"))
    before = set(alone.store.client.scan_iter())
    alone.publish(flow)
    assert leaks(alone.store) == []
    assert alone.published.unpublish("gone") == 1
    assert set(alone.store.client.scan_iter()) == before
    with refused(UnknownFlow, "No flow is published as 'gone'"):
        alone.start_flow("gone", {})


def test_the_oldest_versions_go(alone: Nbflow):
    flow = doubled(Flow("often"))
    first = alone.publish(flow)
    signer, keys = alone.signer, alone.store.keys
    last = KEPT + 5
    records = {str(n): replace(first, number=n).signed(signer) for n in range(1, last + 1)}
    alone.store.client.hset(keys.versions("often"), mapping={**records, "newest": last})
    doubled(flow, 3)
    assert alone.publish(flow).number == last + 1
    assert [version.number for version in alone.published.all("often")][-1] != 6
    assert not alone.store.client.hexists(keys.versions("often"), str(last + 1 - KEPT))


def test_two_who_publish_at_once_get_a_number_each(alone: Nbflow, monkeypatch: pytest.MonkeyPatch):
    flow = doubled(Flow("race"))
    mine = alone.published
    other = doubled(Flow("race"), 3)
    find, raced = mine.find, list[Version]()

    def find_and_be_overtaken(name: str) -> Version | None:
        found = find(name)
        if not raced:
            raced.append(found)  # type: ignore[arg-type]
            alone.publish(doubled(other, 3))
        return found

    alone.publish(doubled(flow, 2))
    monkeypatch.setattr(mine, "find", find_and_be_overtaken)
    assert alone.publish(doubled(flow, 5)).number == 3
    assert [version.number for version in mine.all("race")] == [3, 2, 1]


@pytest.mark.parametrize("change", ["text", "signature", "place", "secret"])
def test_a_version_that_was_tampered_with_is_not_started(alone: Nbflow, change: str):
    version = alone.publish(doubled(Flow("forged")))
    key = alone.store.keys.versions("forged")
    record: Any = alone.store.text.hget(key, "1")
    told = json.loads(record[64:])
    forged = {
        "text": record[:64] + json.dumps(told | {"bundle": "0" * 32}),
        "signature": "f" * 64 + record[64:],
        "place": replace(version, flow="another").signed(alone.signer),
        "secret": version.signed(Nbflow("redis://localhost", secret="another secret, 16 long").signer),
    }[change]
    alone.store.client.hset(key, "1", forged)
    with nothing_written(alone), refused(SignatureMismatch, "Version 1 of flow 'forged'"):
        alone.start_flow("forged", {})
