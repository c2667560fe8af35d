"""The pipeline: one file a DVC stage. Imports `vitrine`, never `services`."""
