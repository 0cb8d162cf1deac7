"""Devices, ranks, and how this processor computes."""
