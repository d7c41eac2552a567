"""Records: identity, seeds, provenance, JSON lines and the folder that holds them. Imports no torch."""
