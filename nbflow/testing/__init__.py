"""Running a flow in this process, for tests of flows."""
