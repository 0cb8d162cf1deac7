"""A model as a GGUF file: for llama.cpp as it is, and for Ollama, LM Studio and the others that are built on it."""
