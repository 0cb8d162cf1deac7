"""The small practice model that makes a fresh machine useful, and everything that builds it."""
