"""Indexes that answer nearest-neighbour queries: one file each. See `vitrine.ports.Index`."""
