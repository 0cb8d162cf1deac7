"""Processes that hold models for the app."""
