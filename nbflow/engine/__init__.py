"""Commands: launch and cancel a run."""
