"""The app as a Hugging Face Space: who may do what."""
