"""Colours and names of loss charts, wherever they are drawn; in a module that does not load matplotlib, for the app."""

COLOURS = ("#4f46e5", "#d97706", "#059669", "#db2777", "#0284c7", "#7c3aed", "#65a30d", "#dc2626")
"""One for each run of a chart, on white; the app's style sheet has the same, and lighter ones for the dark theme."""

X_LABELS = {"step": "Step", "epoch": "Epoch", "tokens": "Tokens", "minutes": "Minutes"}
"""What a loss may be drawn over, and how the axis is called."""

Y_LABEL = "Loss (nats per token)"
