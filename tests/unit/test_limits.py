"""Limits in the plan table."""

from __future__ import annotations

from nbflow import Concurrency, Flow, Rate
from nbflow.define.limits import limits_of


def test_those_with_a_key_come_first_and_the_flow_s_last() -> None:
    """Law: a task is put aside where few others wait."""
    flow = Flow("limited", concurrency=Concurrency(9))

    @flow.entry(concurrency=Concurrency(2), rate=Rate(5, "1s"))
    def plain(customer: str) -> str:
        return customer

    @flow.step(plain, concurrency=Concurrency(1, key="id"), rate=Rate(5))
    def keyed(order: dict[str, int]) -> int:
        return order["id"]

    def names(step: str) -> list[str]:
        spec = flow.spec()
        return [limit[0] for limit in limits_of(spec, spec.step(step))]

    assert names("plain") == ["c:limited:plain", "r:limited:plain", "c:limited"]
    assert names("keyed") == ["c:limited:keyed", "r:limited:keyed", "c:limited"]
    Flow("limited", concurrency=Concurrency(9, key="customer"))
    assert names("plain") == ["c:limited:", "c:limited:plain", "r:limited:plain"]
