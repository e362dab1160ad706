"""The embedding backends by name."""

from ragplat.registry import Registry

BACKENDS = Registry(
    "embedding backend",
    {
        "torch-cpu": "indexer.embedding.backends.torch_cpu:TorchCPU",
        "hashing": "indexer.embedding.backends.hashing:Hashing",
    },
)
