"""Generators write the answer. Those named here are imported on first use."""

from ragplat.registry import Registry

registry = Registry(
    "generator",
    {
        "extractive": "inference.generators.extractive:ExtractiveGenerator",
        "openai": "inference.generators.openai:OpenAIGenerator",
        "echo": "inference.generators.echo:EchoGenerator",
    },
)
