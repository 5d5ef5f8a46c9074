"""A point's keys and allowed values, its composition by Hydra, and its identity. Imports `system`."""
