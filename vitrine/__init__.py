"""Vitrine: the model registry and serving system for e-commerce embeddings."""

__version__ = "0.1.0"
