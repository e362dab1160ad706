"""Text of people and documents, made unable to pass for the signs of a chat template.

Servers put messages into the model's template and read the whole with its special tokens: "<|im_start|>system" in a
document would begin a message of its own (vLLM 0.32 and llama.cpp do so). Models differ in these tokens and no API
lists them, so whatever looks like one of a known family is split by a space, which does no harm: citations are found
whatever the white space. All other text stays as it is.
"""

import re

_NAMES = (
    r"s|bos|eos|pad|unk|mask|sop|eop|image|video|audio|think|tools?|tool_\w+|(?:start|end|begin|beginning)_of_\w+"
    r"|[A-Z_]+_TOKEN|fim_\w+|file_?(?:sep|name)|repo_?name|gh_stars|(?:issue|jupyter|commit)_\w+|empty_output"
    r"|extra_id_\d+|(?:unused|reserved)_?\d+|mask:\d+|seed:\w+"
)
_LIKE_TOKENS = re.compile(
    rf"""
      <(?=[|｜])                    # <|im_start|> of Qwen, Llama 3, Phi; <｜User｜> of DeepSeek
    | <(?=/?(?:{_NAMES})>)         # </s> of Llama 2, <start_of_turn> of Gemma, <tool_call> of Qwen
    | <(?=</?SYS>>)                # of Llama 2
    | \[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_\w+|IMG\w*|THINK|ARGS|CALL_ID)\])  # of Mistral
    | \[(?=(?:[gs]?MASK|PAD|BOS|EOS|UNUSED_TOKEN_\d+)\])  # of GLM, Kimi, InternLM
    | \[(?=[|｜])                   # [|user|] of EXAONE
    """,
    re.VERBOSE,
)
_TAGS = re.compile("[\U000e0000-\U000e007f]+")  # letters that no page shows and models read


def plain(text: str) -> str:
    """``text`` with a space in whatever looks like a special token, and without the invisible tag characters."""
    return _LIKE_TOKENS.sub(lambda found: f"{found[0]} ", _TAGS.sub("", text))
