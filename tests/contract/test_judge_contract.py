"""What every judge must do, run on each of them."""

import json
import re

import pytest

from inference.judges import registry
from inference.judges.base import Claim, Place
from ragplat.errors import BadInput, EmbedderUnavailable, GeneratorUnavailable
from tests.contract.test_generator_contract import hashing_embed

TEXT = "The Norse leader was Rollo. He came from Norway in 911. 他来自挪威。"


def away(*_, **__):
    raise EmbedderUnavailable("The embedding service is down.")


def silent(*_, **__):
    raise GeneratorUnavailable("The server is down.")


def agreeing(messages, schema=None) -> str:
    """A model that finds everything supported."""
    numbers = re.findall(r'<claim n="(\d+)"', messages[-1]["content"])
    return json.dumps({"verdicts": [{"claim": int(n), "reason": "yes", "support": "supported"} for n in numbers]})


def words():
    return registry.get("words")()


def words_embedded():
    return registry.get("words")(embed=hashing_embed)


def words_without_embedder():
    return registry.get("words")(embed=away)


def model():
    return registry.get("model")(complete=agreeing, stand_in=words())


def model_away():
    return registry.get("model")(complete=silent, stand_in=words_without_embedder())


@pytest.fixture(params=[words, words_embedded, words_without_embedder, model, model_away])
def judge(request):
    return request.param()


def claim(text: str, quote: str = "", language: str = "en") -> Claim:
    start = TEXT.index(quote)
    place = Place(text=TEXT, start=start, end=start + len(quote), context="Normans", document="normans.txt")
    return Claim(text=text, places=(place,) if quote else (), language=language)


QUOTED = claim("The Norse leader was Rollo.", "The Norse leader was Rollo.")
REWORDED = claim("Rollo led the Norse.", "The Norse leader was Rollo.")
UNCITED = claim("Rollo was tall.")
CHINESE = claim("他来自挪威。", "他来自挪威。", "zh")


def test_every_judge_is_tested():
    assert registry.names() == ["model", "words"]
    with pytest.raises(BadInput, match=r"judge named.*model, words"):
        registry.get("jury")


def test_one_verdict_a_claim_in_their_order(judge):
    claims = [REWORDED, UNCITED, QUOTED, REWORDED, CHINESE]
    verdicts = judge.judge(claims)
    assert [verdict.support for verdict in verdicts[1:3]] == ["unsupported", "supported"]
    assert verdicts[0] == verdicts[3] and verdicts[4].support == "supported"
    for verdict in verdicts:
        assert verdict.support in ("supported", "partly", "unsupported")
        assert verdict.how == verdict.how.strip() != ""
        assert verdict.score is None or 0 <= verdict.score <= 1
    assert judge.judge(claims) == verdicts
    assert judge.judge([]) == []


@pytest.mark.parametrize("make", [words_without_embedder, model_away])
def test_what_is_away_is_told(make):
    (verdict,) = make().judge([REWORDED])
    assert verdict.how.count("is down.") == (2 if make is model_away else 1)


def test_signatures_name_the_judge(judge):
    kind, *fields = judge.signature().split("|")
    assert kind == "judge" and f"name:{judge.name}" in fields
    assert judge.signature() == judge.signature()
