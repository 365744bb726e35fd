"""Watching runs: their events as they come, the handle a person holds, and tables of what happened."""
