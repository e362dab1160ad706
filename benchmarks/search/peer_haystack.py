"""Haystack on the same chunks, vectors, model and PostgreSQL, for throughput.py; in an environment of its own.

    python peer_haystack.py FOLDER THREADS SECONDS DATABASE_URL MODEL_FOLDER [load]

PgvectorDocumentStore with HNSW (m = 16, ef_construction = 64, pgvector's ef_search = 40, cosine), the question embedded
by SentenceTransformersTextEmbedder in this process. The store holds one connection and one cursor, which threads must
not share, so each thread has its own. The two components are called directly: a Pipeline would only add to their time.
Needs haystack-ai, pgvector-haystack and sentence-transformers-haystack.
"""

import json
import sys
from pathlib import Path

import numpy as np
from clients import K, Search, serve
from haystack import Document
from haystack.document_stores.types import DuplicatePolicy
from haystack.utils import Secret
from haystack_integrations.components.embedders.sentence_transformers import SentenceTransformersTextEmbedder
from haystack_integrations.components.retrievers.pgvector import PgvectorEmbeddingRetriever
from haystack_integrations.document_stores.pgvector import PgvectorDocumentStore

BATCH = 1000


def main(folder: str, threads: str, seconds: str, database_url: str, model: str, load: str = "") -> None:
    if load:
        fill(Path(folder), database_url)
        return
    embedder = SentenceTransformersTextEmbedder(model=model, progress_bar=False)
    embedder.warm_up()

    def open_search() -> Search:
        retriever = PgvectorEmbeddingRetriever(document_store=opened(Path(folder), database_url, "hnsw"), top_k=K)

        def ask(question: str) -> list[int]:
            embedding = embedder.run(text=question)["embedding"]
            return [int(document.id) for document in retriever.run(query_embedding=embedding)["documents"]]

        return ask

    serve(open_search, json.loads(Path(folder, "questions.json").read_text()), int(threads), float(seconds))


def opened(folder: Path, database_url: str, strategy: str, **options) -> PgvectorDocumentStore:
    name = folder.name.replace("-", "_")
    return PgvectorDocumentStore(
        connection_string=Secret.from_token(database_url),
        table_name=f"haystack_{name}",
        hnsw_index_name=f"haystack_{name}_hnsw",
        keyword_index_name=f"haystack_{name}_keyword",
        embedding_dimension=384,
        search_strategy=strategy,
        hnsw_index_creation_kwargs={"m": 16, "ef_construction": 64},
        **options,
    )


def fill(folder: Path, database_url: str) -> None:
    """Write all chunks; the index is made afterwards, by opening the store with it, which is faster."""
    store = opened(folder, database_url, "exact_nearest_neighbor", recreate_table=True)
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    documents = []
    with (folder / "texts.jsonl").open() as file:
        for row, line in enumerate(file):
            vector = vectors[row].astype(float).tolist()
            documents.append(Document(id=str(row), content=json.loads(line), embedding=vector))
            if len(documents) == BATCH:
                store.write_documents(documents, policy=DuplicatePolicy.FAIL)
                documents = []
    if documents:
        store.write_documents(documents, policy=DuplicatePolicy.FAIL)
    opened(folder, database_url, "hnsw").count_documents()


if __name__ == "__main__":
    main(*sys.argv[1:])
