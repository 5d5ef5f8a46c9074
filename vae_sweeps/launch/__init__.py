"""From a command to finished points: plan, pack, train or submit, record. Imports every package but `cli`."""
