"""A flow as its author writes it: steps, subscriptions, graph, plan, bundle. No server is known here."""
