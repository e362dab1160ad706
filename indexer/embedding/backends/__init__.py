"""The backends by name."""

from ragplat.registry import Registry

BACKENDS = Registry(
    "embedding backend",
    {
        "torch-cpu": "indexer.embedding.backends.torch_cpu:TorchCPU",
        "hashing": "indexer.embedding.backends.hashing:Hashing",
    },
)
RERANKERS = Registry(
    "reranking backend",
    {
        "torch-cpu": "indexer.embedding.backends.cross_encoder:CrossEncoderCPU",
        "overlap": "indexer.embedding.backends.overlap:Overlap",
    },
)
