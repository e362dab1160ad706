"""Sentences and languages."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragplat.text import clean_title, detect_language, is_cjk, read_date, sentences

# Each row is one text, as the list of its sentences; they are joined with what stands between them in `text`.
SPLITS = {
    "Dr. Smith met J. K. Rowling in the U.S. Senate. It was late.": [
        "Dr. Smith met J. K. Rowling in the U.S. Senate.",
        "It was late.",
    ],
    "He moved to the U.S. The law was new.": ["He moved to the U.S.", "The law was new."],
    "Use fruit, e.g. Apples, i.e. these. See Fig. 3 and No. 5. Is the answer no. Paris is.": [
        "Use fruit, e.g. Apples, i.e. these.",
        "See Fig. 3 and No. 5.",
        "Is the answer no.",
        "Paris is.",
    ],
    "It costs 3.14 dollars. Version v1.2.3. See https://a.example/b.html?c=1. Then node.js came.": [
        "It costs 3.14 dollars.",
        "Version v1.2.3.",
        "See https://a.example/b.html?c=1.",
        "Then node.js came.",
    ],
    "And so on... then more... Then the end. What?! Yes!": [
        "And so on... then more...",
        "Then the end.",
        "What?!",
        "Yes!",
    ],
    '"Stop!" he said. He said "Stop." Then (later.) Finally.': [
        '"Stop!" he said.',
        'He said "Stop."',
        "Then (later.)",
        "Finally.",
    ],
    "1. Install it. 2. Run it.\n3. Be happy.": ["1. Install it.", "2. Run it.", "3. Be happy."],
    "It is blue.[1] It is red. [2][3] It is green [4].": ["It is blue.[1]", "It is red. [2][3]", "It is green [4]."],
    "Apple Inc. Chief Tim Cook and Acme Ltd. The end.": ["Apple Inc. Chief Tim Cook and Acme Ltd.", "The end."],
    "Done. `pip` is a tool. **Bold.** Plain.": ["Done.", "`pip` is a tool.", "**Bold.**", "Plain."],
    "他说：“你好。”然后走了。真的吗？是的！好；行": [
        "他说：“你好。”",
        "然后走了。",
        "真的吗？",
        "是的！",
        "好；",
        "行",
    ],
    "**第一。**第二。**第三**。": ["**第一。**", "第二。", "**第三**。"],
    "第一句。**重点**在后。`a`。": ["第一句。", "**重点**在后。", "`a`。"],
    "天是蓝的。[1]海也是[2]。版本3.5很好!你用吗?我用": [
        "天是蓝的。[1]",
        "海也是[2]。",
        "版本3.5很好!",
        "你用吗?",
        "我用",
    ],
    "他想了想……然后走了。": ["他想了想……然后走了。"],
    "「はい。」と言った。彼は来た。": ["「はい。」と言った。", "彼は来た。"],
    "# A heading\nA wrapped\nline. More\n\n- item one\n- item two\n  goes on\n\nTitle\n=====\nText": [
        "# A heading",
        "A wrapped\nline.",
        "More",
        "- item one",
        "- item two\n  goes on",
        "Title",
        "=====",
        "Text",
    ],
    "| a. B | b |\n|---|---|\n| 1 | 2 |\nafter": ["| a. B | b |", "|---|---|", "| 1 | 2 |", "after"],
    "page one\fpage two": ["page one", "page two"],
    "": [],
    " \n\t\u3000": [],
}


@pytest.mark.parametrize("text", SPLITS)
def test_sentences(text):
    assert [text[start:end] for start, end in sentences(text)] == SPLITS[text]


signs = st.text(st.sampled_from("abA 1.!?;…。！？；“”\"'()[]*`-#|\n\f\u3000中文あ字e.g"), max_size=120)


@settings(deadline=None)  # machines differ
@given(signs | st.text(max_size=200))
def test_spans_hold_every_character_once(text):
    spans = sentences(text)
    position = 0
    for start, end in spans:
        assert position <= start < end
        assert text[position:start].strip() == ""
        assert text[start:end] == text[start:end].strip()
        position = end
    assert text[position:].strip() == ""


LANGUAGES = {
    "en": "The quick brown fox jumps over the lazy dog, and that is all there is to it.",
    "de": "Der schnelle Fuchs springt über den faulen Hund, und das ist alles, was es dazu gibt.",
    "fr": "Le renard saute par-dessus le chien paresseux, et c'est tout ce que nous pouvons dire.",
    "es": "El zorro salta sobre el perro perezoso, y eso es todo lo que se puede decir del tema.",
    "it": "La volpe salta sopra il cane pigro, e questo è tutto quello che si può dire della cosa.",
    "pt": "A raposa pula sobre o cachorro preguiçoso, e isso é tudo o que não se pode negar.",
    "nl": "De snelle vos springt over de luie hond, en dat is alles wat er over te zeggen is.",
    "zh": "快速的狐狸跳过了懒狗。",
    "ja": "素早い狐は怠け者の犬を飛び越えた。",
    "ko": "빠른 여우가 게으른 개를 뛰어넘는다.",
    "ru": "Быстрая лиса перепрыгнула через ленивую собаку.",
    "uk": "Швидка лисиця перестрибнула через ледачого собаку і її друзів.",
    "el": "Η γρήγορη αλεπού πήδηξε πάνω από το σκυλί.",
    "he": "השועל המהיר קפץ מעל הכלב העצלן.",
    "ar": "قفز الثعلب السريع فوق الكلب الكسول.",
    "fa": "روباه سریع از روی سگ تنبل پرید و گفت.",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_detect_language(language):
    assert detect_language(LANGUAGES[language]) == language


@pytest.mark.parametrize("text", ["", "   ", "12345", "asyncio", "Acme GmbH", "import numpy", "`the code of the code`"])
def test_unsure_of_the_language(text):
    assert detect_language(text) == ""


def test_language_of_mixed_text():
    assert detect_language("使用 `FastAPI` 和 Pydantic 创建 API 的方法") == "zh"
    assert detect_language("The word 中文 means the Chinese language, and it is of two signs.") == "en"
    assert detect_language("```\nthe code is in the block and it is not of the text\n```\n这是正文。") == "zh"


@pytest.mark.parametrize("char", "中㐀𠀀々あアー가ㄅｱ")
def test_is_cjk(char):
    assert is_cjk(char)


@pytest.mark.parametrize("char", "aé1。、，ж ")
def test_is_not_cjk(char):
    assert not is_cjk(char)


def test_a_title_loses_its_marks():
    assert clean_title("**Features** of [FastAPI](https://x) { #features }") == "Features of FastAPI"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("D:20260521093000+02'00'", "2026-05-21"),
        ("2026-05-21T09:30:00Z", "2026-05-21"),
        ("2026-05", "2026-05-01"),
        ("2026", "2026-01-01"),
        ("Thu, 21 May 2026 09:30:00 +0200", "2026-05-21"),
        ("D:20261399", None),
        ("0000-00-00", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_dates_of_metadata(text, expected):
    found = read_date(text)
    assert (found and found.isoformat()) == expected
