"""Measurements: each module prints its figures; README.md keeps them with the machine and the date."""
