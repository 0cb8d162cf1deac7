"""The app: one file a tab over nanochat_core. Never imports torch; whatever needs it runs in a process of its own."""
