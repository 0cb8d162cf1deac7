"""The network, its KV cache, and one step of decoding."""
