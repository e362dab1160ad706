"""Judges say whether what a sentence cites bears it out. Those named here are imported on first use."""

from ragplat.registry import Registry

registry = Registry(
    "judge",
    {
        "words": "inference.judges.words:WordsJudge",
        "model": "inference.judges.model:ModelJudge",
    },
)
