"""Makes `--hypothesis-profile=proof` known before the tests are collected."""

from __future__ import annotations

import tests.property.profiles  # noqa: F401 - registers the profile
