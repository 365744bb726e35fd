"""The server: keys, connections, scripts, the event log. The only place that knows redis."""
