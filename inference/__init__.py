"""Owns one question: from a query to a cited answer."""
