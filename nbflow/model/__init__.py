"""Frozen data and pure functions that all floors share: ids, events, the fold, the payload law."""
