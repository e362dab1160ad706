"""Rewriting for the search: what a model writes is used only where it can be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.rewriting import ANSWER_CHARACTERS, condense, passage, variants
from ragplat.errors import GeneratorUnavailable

HISTORY = [("How do I install the worker on Linux?", "With apt [1].")]
FOLLOW_UP = "And on Windows 11?"


class Model:
    """Replies with ``reply`` and keeps what it was asked."""

    def __init__(self, reply: str):
        self.reply = reply
        self.asked: list[dict] = []

    def __call__(self, messages) -> str:
        self.asked = list(messages)
        return self.reply

    @property
    def told(self) -> str:
        return self.asked[-1]["content"]


def down(messages) -> str:
    raise GeneratorUnavailable("The server is down.")


# --- follow-up questions ---------------------------------------------------------------------------------------------


def test_the_first_question_is_left_alone():
    assert condense("Why is it slow?", [], Model("x")) == ("Why is it slow?", "as asked")


def test_rules_without_a_model():
    assert condense(FOLLOW_UP, HISTORY) == ("And on Windows 11 (install the worker on Linux)?", "rules")
    assert condense("How do I delete a corpus?", HISTORY) == ("How do I delete a corpus?", "as asked")


def test_rules_follow_a_chain_of_follow_ups():
    history = [*HISTORY, ("And on Windows?", "With an installer [1].")]
    text, how = condense("How long does it take?", history)
    assert (text, how) == ("How long does it take (Windows install the worker on Linux)?", "rules")


def test_a_model_sees_the_conversation_and_its_words_are_used():
    model = Model("How do I install the worker on Windows 11?")
    assert condense(FOLLOW_UP, HISTORY, model) == ("How do I install the worker on Windows 11?", "condense-en@1")
    assert [message["role"] for message in model.asked] == ["system", "user"]
    assert model.told.startswith("Question: How do I install the worker on Linux?\nAnswer: With apt [1].")
    assert model.told.endswith(f"Last question: {FOLLOW_UP}")


def test_a_long_conversation_is_shown_in_part():
    model = Model("x")
    turns = [(f"Question {number}?", "long " * 1000) for number in range(9)]
    condense(FOLLOW_UP, turns, model)
    assert "Question 8?" in model.told
    assert "Question 5?" not in model.told
    assert len(model.told) < 3 * (ANSWER_CHARACTERS + 100)


def test_the_prompt_is_in_the_language_of_the_question():
    model = Model("如何在Windows上安装工作进程？")
    assert condense("那Windows呢？", [("如何安装工作进程？", "用apt。")], model).how == "condense-zh@1"
    assert "最后一个问题：那Windows呢？" in model.told


@pytest.mark.parametrize(
    "reply",
    [
        '"How do I install it on Windows 11?"',
        "Standalone question: How do I install it on Windows 11?",
        "**Rewritten question:** How do I install it on Windows 11?",
        "1. How do I install it on Windows 11?",
        "<think>They mean\nWindows.</think>\nHow do I install it on Windows 11?",
        "```\nHow do I install it on Windows 11?\n```",
        "Here is the rewritten question:\n\nHow do I install it on Windows 11?",
        "“How do I install it on Windows 11?”",
    ],
)
def test_what_models_put_around_a_question_goes(reply):
    assert condense(FOLLOW_UP, HISTORY, Model(reply)) == ("How do I install it on Windows 11?", "condense-en@1")


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("", "0 lines"),
        ("  \n", "0 lines"),
        ("<think>endless", "0 lines"),
        ("You can install it with winget.\nIt takes a minute.", "2 lines"),
        ("How do I install it on Windows?", "left out 11"),
        ("I'm sorry, I cannot help with Windows 11.", "refused"),
        ("What is the weather on 11 May?", "no word of the question"),
        ("Windows 11 " * 60, "659 characters"),
        ("如何在Windows 11上安装？", "language"),
        ("On Windows 11 it is installed with winget.", "answered instead of asking"),
        ("How do I install the worker on Windows 11 in 10 years?", "made up 10"),
    ],
)
def test_words_that_cannot_be_used_give_way_to_the_rules(reply, why):
    text, how = condense(FOLLOW_UP, HISTORY, Model(reply.strip() if why != "0 lines" else reply))
    assert text == "And on Windows 11 (install the worker on Linux)?"
    assert how.startswith("rules: the model")
    assert why in how


def test_a_model_that_is_down_gives_way_to_the_rules():
    assert condense(FOLLOW_UP, HISTORY, down).how == "rules: The server is down."
    assert condense("How do I delete a corpus?", HISTORY, down) == (
        "How do I delete a corpus?",
        "as asked: The server is down.",
    )


@given(st.text(max_size=200))
def test_whatever_a_model_writes_there_is_a_question(reply):
    text, how = condense(FOLLOW_UP, HISTORY, Model(reply))
    assert text.strip()
    assert "11" in text
    assert how.startswith(("condense-en@1", "rules: "))


def test_braces_in_a_question_are_words():
    model = Model("x")
    condense("What does {question} in {answer} mean?", [("a {question}", "b")], model)
    assert "What does {question} in {answer} mean?" in model.told


# --- other wordings --------------------------------------------------------------------------------------------------

QUESTION = "How often is the index rebuilt?"


@pytest.mark.parametrize(
    "reply",
    [
        "When does reindexing happen?\nIndex rebuild interval",
        "1. When does reindexing happen?\n2. Index rebuild interval\n",
        "Here are 2 wordings:\n\n- When does reindexing happen?\n- Index rebuild interval",
        '1) "When does reindexing happen?"\n2) "Index rebuild interval"',
        "Query 1: When does reindexing happen?\nQuery 2: Index rebuild interval",
        "(1) When does reindexing happen?\n\n(2) Index rebuild interval",
        "How often is the index rebuilt?\nWhen does reindexing happen?\nIndex rebuild interval\nA third",
        "When does reindexing happen?\nwhen does reindexing happen\nIndex rebuild interval",
    ],
)
def test_wordings_are_taken_out_of_what_a_model_writes(reply):
    model = Model(reply)
    assert variants(QUESTION, 2, model) == (["When does reindexing happen?", "Index rebuild interval"], "variants-en@1")
    assert "Write 2 wordings" in model.asked[0]["content"]
    assert model.told == f"Question: {QUESTION}"


def test_chinese_wordings():
    model = Model("1. 重建索引的频率是多少？\n2、多久重新索引一次？\n3.索引何时更新？")
    assert variants("索引多久重建一次？", 3, model) == (
        ["重建索引的频率是多少？", "多久重新索引一次？", "索引何时更新？"],
        "variants-zh@1",
    )


@pytest.mark.parametrize(
    ("reply", "found", "how"),
    [
        ("Index rebuild interval", ["Index rebuild interval"], "variants-en@1: 1 of 3 wordings could be used"),
        ("I'm sorry, I can't do that.", [], "as asked: 0 of 3 wordings could be used"),
        ("", [], "as asked: 0 of 3 wordings could be used"),
        (QUESTION, [], "as asked: 0 of 3 wordings could be used"),
        ("x" * 1000, [], "as asked: 0 of 3 wordings could be used"),
    ],
)
def test_missing_wordings_are_told(reply, found, how):
    assert variants(QUESTION, 3, Model(reply)) == (found, how)


def test_no_wordings_without_a_model_that_answers():
    assert variants(QUESTION, 3, down) == ([], "as asked: The server is down.")
    assert variants(QUESTION, 0, down) == ([], "as asked")


@given(st.text(max_size=300), st.integers(1, 5))
def test_wordings_are_few_different_and_not_the_question(reply, n):
    found, _ = variants(QUESTION, n, Model(reply))
    assert len(found) <= n
    assert len(set(found)) == len(found)
    assert QUESTION not in found
    assert all(one.strip() == one and one for one in found)


# --- passages --------------------------------------------------------------------------------------------------------


def test_a_passage_is_what_a_model_makes_up():
    reply = "Passage: The index is rebuilt every night.\nIt takes 3.5 minutes."
    expected = "The index is rebuilt every night. It takes 3.5 minutes."
    assert passage(QUESTION, Model(reply)) == (expected, "passage-en@1")
    assert passage(QUESTION, Model("3.5 minutes pass.")).text == "3.5 minutes pass."


@pytest.mark.parametrize(
    ("model", "how"),
    [
        (Model(""), "as asked: the model wrote nothing"),
        (Model("I don't know when it is rebuilt."), "as asked: the model refused"),
        (Model("As an AI language model, I cannot..."), "as asked: the model refused"),
        (Model("抱歉，我无法回答。"), "as asked: the model refused"),
        (down, "as asked: The server is down."),
    ],
)
def test_without_a_passage_the_question_stays(model, how):
    assert passage(QUESTION, model) == (QUESTION, how)
