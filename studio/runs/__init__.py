"""Runs as the app starts, stops and shows them."""
