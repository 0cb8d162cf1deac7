"""Replies: which token is next, and what a conversation becomes."""
