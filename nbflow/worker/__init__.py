"""Workers: the supervisor, the loop, one attempt. The only place that knows RQ."""
