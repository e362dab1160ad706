"""Owns the corpus: from a file to a searchable index."""
