"""Data files that are being edited, without their drawing."""
