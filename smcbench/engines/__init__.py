"""Engines place cells; the store is the only truth, so any worker may die."""
