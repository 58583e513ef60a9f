"""Adapters: trainings of other libraries as sources of the same records."""
