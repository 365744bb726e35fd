"""The values of secrets in a worker process: where steps find them, who is told of them, and what steps must not find."""

from __future__ import annotations

import os

from nbflow.model import veil
from nbflow.model.secret import look_from_here
from nbflow.settings import PREFIX

__all__ = ["open_vault"]


def open_vault(told: int) -> None:
    """Steps find values as the environment and the folder say now; nbflow's own settings, the secret that code is signed
    with among them, are hidden from them. What they read is told to the supervisor by this file of memory: it speaks for
    this process when it is dead, and masks what that would have masked."""
    look_from_here()
    veil.tell_to(told)
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]
