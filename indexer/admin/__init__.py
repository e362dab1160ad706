"""The administration of corpora, documents, chunks, recipes and jobs."""

from indexer.admin import documents, jobs, recipes  # noqa: F401  (registers the pages)
