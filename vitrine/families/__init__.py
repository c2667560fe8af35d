"""Backbone families: one file a library of pre-trained networks. See `vitrine.ports.Family`."""
