"""Importers: one file a dataset format. See `vitrine.ports.Importer`."""
