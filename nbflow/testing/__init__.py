"""Running a flow in this process, for tests of flows: no server, no worker, a clock that jumps."""
