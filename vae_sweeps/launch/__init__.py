"""Launches: plan, pack, train or submit, and record points. May import every package but `cli`."""
