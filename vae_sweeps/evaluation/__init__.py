"""Evaluates trained models. Imports `data`, `models`, `runs` and lower packages; draws nothing."""
