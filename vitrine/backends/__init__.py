"""Engines that run a version: one file a backend. See `vitrine.ports.Backend`."""
