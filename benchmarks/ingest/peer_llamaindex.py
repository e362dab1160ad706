"""LlamaIndex on the same files, model and PostgreSQL; run by compare.py in an environment of its own.

    python peer_llamaindex.py FOLDER DATABASE_URL MODEL_FOLDER QUERIES_JSON

Prints one line of JSON: chunks, seconds, and the time of each query. Needs llama-index-core,
llama-index-embeddings-huggingface and llama-index-vector-stores-postgres.
"""

import json
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.node_parser import SentenceSplitter
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
from llama_index.vector_stores.postgres import PGVectorStore


def main(folder: str, database_url: str, model: str, queries: str) -> None:
    parts = urlsplit(database_url)
    place = f"{parts.username}@/{parts.path.lstrip('/')}?host={parse_qs(parts.query)['host'][0]}"
    store = PGVectorStore(
        connection_string=f"postgresql+psycopg2://{place}",
        async_connection_string=f"postgresql+asyncpg://{place}",
        table_name=f"peer_{int(time.time())}",
        embed_dim=384,
        hnsw_kwargs={"hnsw_m": 16, "hnsw_ef_construction": 64, "hnsw_dist_method": "vector_cosine_ops"},
    )
    embedder = HuggingFaceEmbedding(model_name=model, embed_batch_size=32)
    embedder.get_text_embedding("warm")
    started = time.perf_counter()
    files = sorted(path for path in Path(folder).rglob("*.md") if path.is_file())
    documents = [Document(text=path.read_text(), metadata={"file": path.name}) for path in files]
    nodes = SentenceSplitter(chunk_size=200, chunk_overlap=20).get_nodes_from_documents(documents)
    index = VectorStoreIndex(
        nodes, storage_context=StorageContext.from_defaults(vector_store=store), embed_model=embedder
    )
    seconds = time.perf_counter() - started
    retriever = index.as_retriever(similarity_top_k=10)
    times = []
    for query in json.loads(queries):
        began = time.perf_counter()
        retriever.retrieve(query)
        times.append(time.perf_counter() - began)
    print(json.dumps({"chunks": len(nodes), "seconds": seconds, "queries": times}))


if __name__ == "__main__":
    main(*sys.argv[1:])
