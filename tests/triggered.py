"""Flows that triggers start, for tests without workers."""

from __future__ import annotations

from typing import Any

import nbflow as nf
from nbflow import Flow, Trigger
from nbflow.app import Nbflow

__all__ = ["PAID", "billing", "inputs", "left", "order", "row"]

PAID = Trigger("paid", event="order.paid", match={"order.status": "paid"}, key="order.id")


def billing(name: str = "bills", *, n: int = 1, long: bool = False) -> Flow:
    flow = Flow(name)

    @flow.entry(name="bill")
    def bill(order: dict, receipt: str = "none", year: int = 2000) -> str:  # pyright: ignore[reportMissingTypeArgument]
        return f"{order} {receipt} {year} {n}"

    for number in range(50 if long else 0):  # a graph of more than 4 KiB

        @flow.step(bill, name=f"step_{number:02}_with_a_long_name")
        def step(text: str) -> str:
            return text

    return flow


def order(number: int, status: str = "paid", **more: Any) -> dict[str, Any]:
    return {"order": {"id": number, "status": status}, **more}


def inputs(nbflow: Nbflow, flow: str = "bills") -> list[Any]:
    return [nbflow.run(row.id).input for row in reversed(nbflow.index.runs(flow=flow, limit=1000))]


def row(nbflow: Nbflow, flow: str = "bills") -> dict[str, Any]:
    (found,) = [one for one in nf.triggers().to_dict("records") if one["flow"] == flow]
    return found


def left(nbflow: Nbflow) -> list[str]:
    """Firings with flows to start still."""
    return nbflow.store.text.zrange(nbflow.store.keys.firings(), 0, -1)  # pyright: ignore[reportReturnType]
