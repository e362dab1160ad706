"""LlamaIndex on the same chunks, vectors, model and PostgreSQL, for throughput.py; in an environment of its own.

    python peer_llamaindex.py FOLDER THREADS SECONDS DATABASE_URL MODEL_FOLDER [load]

PGVectorStore with HNSW as its documentation shows (m = 16, ef_construction = 64, ef_search = 40, cosine), the question
embedded by HuggingFaceEmbedding in this process. Needs llama-index-core, llama-index-embeddings-huggingface and
llama-index-vector-stores-postgres.
"""

import json
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
from clients import K, serve
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import TextNode
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
from llama_index.vector_stores.postgres import PGVectorStore

BATCH = 1000
HNSW = {"hnsw_m": 16, "hnsw_ef_construction": 64, "hnsw_ef_search": 40, "hnsw_dist_method": "vector_cosine_ops"}


def main(folder: str, threads: str, seconds: str, database_url: str, model: str, load: str = "") -> None:
    if load:
        fill(Path(folder), database_url)
        return
    store = opened(Path(folder), database_url, pool_size=int(threads), hnsw_kwargs=dict(HNSW))
    index = VectorStoreIndex.from_vector_store(store, embed_model=HuggingFaceEmbedding(model_name=model))
    retriever = index.as_retriever(similarity_top_k=K)

    def ask(question: str) -> list[int]:
        return [int(found.node.node_id) for found in retriever.retrieve(question)]

    serve(lambda: ask, json.loads(Path(folder, "questions.json").read_text()), int(threads), float(seconds))


def opened(folder: Path, database_url: str, pool_size: int = 1, **options) -> PGVectorStore:
    parts = urlsplit(database_url)
    place = f"{parts.username}@/{parts.path.lstrip('/')}?host={parse_qs(parts.query)['host'][0]}"
    return PGVectorStore(
        connection_string=f"postgresql+psycopg2://{place}",
        async_connection_string=f"postgresql+asyncpg://{place}",
        table_name=folder.name.replace("-", "_"),
        embed_dim=384,
        create_engine_kwargs={"pool_size": pool_size},
        **options,
    )


def fill(folder: Path, database_url: str) -> None:
    """Add all chunks; the index is made afterwards, by opening the store with it, which is faster."""
    store = opened(folder, database_url)
    store.clear()
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    nodes = []
    with (folder / "texts.jsonl").open() as file:
        for row, line in enumerate(file):
            nodes.append(TextNode(id_=str(row), text=json.loads(line), embedding=vectors[row].astype(float).tolist()))
            if len(nodes) == BATCH:
                store.add(nodes)
                nodes = []
    if nodes:
        store.add(nodes)
    opened(folder, database_url, hnsw_kwargs=dict(HNSW)).add([])


if __name__ == "__main__":
    main(*sys.argv[1:])
