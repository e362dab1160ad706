"""Sentences that give orders to whoever answers from a document: not quoted, unless the question is about such orders.

The wordings are the usual ones; others pass, and a language model reads them all the same. What keeps any answer
harmless is how it is shown: this only keeps the quoting generator from repeating them.
"""

import re

from inference.generators.plain import plain

_ANSWERING = re.compile(
    r"\b(?:answer(?:s|ed|ing)?|repl(?:y|ies)|respond|cite|assistants?|chatbot|language models?|LLMs?|AI"
    r"|(?:system )?prompts?|instructions?|rules? (?:above|before|for this conversation)|this source|nothing else"
    r"|tell the (?:reader|user|person)|(?:write|say|reply|print) only|only (?:write|say|reply|print))\b"
    r"|回答|回复|输出|引用|助手|人工智能|语言模型|提示词|系统提示|指示|指令|新的规则|规则原文",
    re.IGNORECASE,
)
_ORDER = re.compile(
    r"\b(?:must|always|never|only|ignore|disregard|forget|instead|begins?|ends?|should|has to|have to|out of date"
    r"|(?:every|all|any) questions?)\b"
    r"|(?:^|[,:;>])\W*(?:please )?(?:tell|say|write|print|repeat|add|cite|answer|reply|respond|include|show)\b"
    r"|必须|只能|只(?=回复|输出|回答)|一律|请|忽略|无视|不得|不要|务必|都(?=以|必须)|末尾|结尾",
    re.IGNORECASE,
)
_UNSEEN = r"[\u200b\u2060\ufeff]"
_HIDDEN = re.compile(rf"(?:(?:[a-z]{_UNSEEN}|{_UNSEEN}[a-z]).*?){{3}}", re.IGNORECASE | re.DOTALL)


def to_answerer(text: str, question: str) -> bool:
    """Whether ``text`` orders how to answer, or holds signs of chat templates, and ``question`` is not about these."""
    if plain(question) != question or _ANSWERING.search(question):
        return False
    orders = _ANSWERING.search(text) and _ORDER.search(text)
    return bool(orders or _HIDDEN.search(text)) or plain(text) != text
