"""Small facts about written text: where its sentences are and which language it is in. Pure, no dependencies."""

import re
from collections import Counter
from collections.abc import Iterator
from datetime import date
from email.utils import parsedate_to_datetime

# --- characters --------------------------------------------------------------------------------------------------

_HAN = r"\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_KANA = r"\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"
_HANGUL = r"\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3"
_CJK = re.compile(f"[{_HAN}{_KANA}{_HANGUL}\\u3105-\\u312f]")


def storable(text: str) -> str:
    """``text`` without NUL and lone surrogates, which JSON can hold, and PostgreSQL and UTF-8 cannot."""
    return text.replace("\x00", "").encode("utf-16", "surrogatepass").decode("utf-16", "ignore")


def is_cjk(char: str) -> bool:
    """Whether ``char`` is a Chinese, Japanese or Korean letter (Han, kana, bopomofo, hangul; no punctuation)."""
    return _CJK.fullmatch(char) is not None


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# --- sentences ---------------------------------------------------------------------------------------------------

_CLOSERS = r"[\"'”’»」』）)】》〉〕\]*_`]*"
_CITED = r"(?:[ \t]?\[\d{1,3}(?:[ ,，、–-]{1,2}\d{1,3}){0,9}\])*"  # "It is blue.[1] Next", "It is blue. [1] Next"
_END = re.compile(rf"([.!?…‥。｡．！？；।॥؟۔]+)({_CLOSERS}){_CITED}")
_PAIRED = frozenset("\"'*_`")  # the same sign opens and closes
_FULL = frozenset("。｡！？；")  # end a sentence without a space after them
_QUOTE_GOES_ON = re.compile(r"[とっ]")  # Japanese: 「はい。」と言った。

_SAME_SIGNS = re.compile(r"(.)\1*")
_SPACE = re.compile(r"\s*")
_LAST_WORD = re.compile(r"[^\s(\[\"'“‘«（「*_/—–-]{1,20}$")
_NEXT = re.compile(r"[\"'“‘«(\[（「『【*_¿¡]{0,4}([^\W\d_][\w'’]{0,15}|.?)", re.DOTALL)
_INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")  # "J" of "J. K. Rowling", "U.S", "z.B"
_LIST_MARK = re.compile(r"[(\[]?(?:\d{1,3}(?:\.\d{1,3}){0,4}|[A-Za-z]|[ivxIVX]{1,5})[.)]?")

# Words that a full stop follows without ending the sentence, lower case, without the stop.
_ABBREVIATIONS = _words(
    """dr mr mrs ms messrs mx prof st rev hon gen col capt lt sgt maj gov sen rep pres supt jr sr esq
    fig figs eq eqs ref refs sec sect ch chap vol vols no nos nr art pp pt ex tab app ed eds trans
    al cf viz vs approx ca resp incl excl est dept univ assn bros inc ltd corp co llc plc
    jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri sat sun
    ave blvd rd mt ft min max bzw usw vgl evtl ggf inkl str hr fr mme mlle sra srta dott ing ph.d"""
)
_NEVER_LAST = _words("e.g i.e eg ie cf viz vs z.b d.h p.ex dr mr mrs ms prof")
# Those of them that are also words of their own: abbreviations only with a capital or before a number.
_ALSO_WORDS = _words("no art ch app ex min max mar may sun sat mon co ref tab ed est st sec str fr ing")
# Words that start a sentence rather than go on with a name: what tells "in the U.S. The law" from "the U.S. Senate".
_STARTERS = _words(
    """The This That These Those There It Its He She They We You I In On At By For From With To Of As If When While
    Where Why How What Which Who Whether After Before Since Because Although Though However But And Or So Yet Then
    Thus Therefore Hence Moreover Furthermore Also Here Now Some Many Most Each Every All Both No Not Our Their His Her
    My Your A An Another Other Such Let See Note Use Is Are Was Were Do Does Did Can"""
)

_LINE = re.compile(r"[^\n\f]*[\n\f]?")
_ALONE = re.compile(  # lines that never run on into the next one
    r"[ ]{0,3}\#{1,6}(?:[ \t]|$) | [ \t]*(?:```|~~~) | [ \t]*\| | [ \t]*(?:[-=*_][ \t]*){3,}$", re.VERBOSE
)
_OPENS = re.compile(  # list items
    r"[ \t]*(?:[-*+•‣◦·–][ \t]+\S | \(?\d{1,3}[.)][ \t]+\S | [（(]?[一二三四五六七八九十]{1,3}[、）)])", re.VERBOSE
)


def sentences(text: str) -> list[tuple[int, int]]:
    """Where the sentences of ``text`` are, as (start, end) offsets.

    The spans are in order, do not overlap, start and end on a non-blank character, and hold every non-blank character.
    Knows English-like scripts (abbreviations, initials, decimals, list markers) and Chinese and Japanese. A line break
    ends a sentence where a paragraph, heading, list item or table row ends; a wrapped line runs on. Markdown's own
    signs are text like any other.
    """
    spans = []
    for start, end in _runs(text):
        begin = start
        for stop in _stops(text, start, end):
            spans.append(_trim(text, begin, stop))
            begin = stop
        spans.append(_trim(text, begin, end))
    return [(start, end) for start, end in spans if start < end]


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    part = text[start:end]
    return end - len(part.lstrip()), start + len(part.rstrip())


def _runs(text: str) -> Iterator[tuple[int, int]]:
    """Stretches of lines that a sentence may run across."""
    start = end = 0  # the run so far
    closed = True  # nothing may join it
    for match in _LINE.finditer(text):
        line = match.group().rstrip()
        alone = not line or _ALONE.match(line) is not None
        if closed or alone or _OPENS.match(line):
            if start < end:
                yield start, end
            start = match.start() if line else match.end()
        end = match.end()
        closed = alone or match.group().endswith("\f")
    if start < end:
        yield start, end


def _stops(text: str, start: int, end: int) -> Iterator[int]:
    """Offsets inside a run at which one sentence ends and another begins."""
    begin = start
    for match in _END.finditer(text, start, end):
        if match.end() == end:
            return
        if text[match.end()].isspace():
            stop = match.end() if _ends_at_space(text, begin, match) else 0
        else:
            stop = _end_without_space(text, begin, match)
        if stop:
            yield stop
            begin = stop


def _end_without_space(text: str, begin: int, match: re.Match[str]) -> int:
    """Where a sentence ends that the next one follows without a space, as in Chinese; 0 where it goes on."""
    mark, closers = match.groups()
    following = text[match.end()]
    if not _FULL.intersection(mark):  # "3.14" and "example.org" go on
        before = text[match.start() - 1 : match.start()]
        cjk = is_cjk(following) and not closers
        return match.end() if cjk and (mark[-1] in "!?" or (mark in ".．" and is_cjk(before))) else 0
    if closers and _QUOTE_GOES_ON.match(following):
        return 0
    for signs in _SAME_SIGNS.finditer(text, *match.span(2)):
        if signs[1] in _PAIRED and text.count(signs[0], begin, signs.start()) % 2 == 0:
            return signs.start()  # these signs open the next sentence: 第一。**第二**
    return match.end()


def _ends_at_space(text: str, begin: int, match: re.Match[str]) -> bool:
    """Whether a mark with a space after it ends a sentence: by the word before and the word after."""
    if _FULL.intersection(match.group(1)):
        return True
    following = _NEXT.match(text, _SPACE.match(text, match.end()).end()).group(1)
    if following[:1].islower():
        return False
    if match.group(1) != ".":
        return True
    sentence = text[max(begin, match.start() - 40) : match.start()].strip()
    return not _LIST_MARK.fullmatch(sentence) and not _abbreviated(sentence, following)


def _abbreviated(sentence: str, following: str) -> bool:
    """Whether the full stop after ``sentence`` marks an abbreviation, given the word that follows."""
    found = _LAST_WORD.search(sentence)
    word = found.group() if found else ""
    lower = word.lower()
    if lower in _NEVER_LAST:
        return True
    if lower in _ALSO_WORDS and word == lower and not following[:1].isdigit():
        return False
    return (lower in _ABBREVIATIONS or _INITIALS.fullmatch(word) is not None) and following not in _STARTERS


# --- language ----------------------------------------------------------------------------------------------------

_SAMPLE = 20_000  # characters looked at: enough to be sure, however long the document
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.DOTALL)
_SCRIPTS = {  # script: (its letters, how many Latin letters one of them is worth)
    "kana": (f"[{_KANA}]", 2),
    "han": (f"[{_HAN}]", 3),
    "hangul": (f"[{_HANGUL}]", 2),
    "cyrillic": (r"[\u0400-\u04ff]", 1),
    "greek": (r"[\u0370-\u03ff\u1f00-\u1fff]", 1),
    "hebrew": (r"[\u05d0-\u05ea]", 1),
    "arabic": (r"[\u0620-\u064a\u0660-\u06d3]", 1),
    "thai": (r"[\u0e01-\u0e5b]", 1),
    "devanagari": (r"[\u0900-\u097f]", 1),
    "latin": (r"[A-Za-z\u00c0-\u024f]", 1),
}
_SCRIPT_PATTERNS = {name: (re.compile(letters), worth) for name, (letters, worth) in _SCRIPTS.items()}
_ONE_LANGUAGE = {"hangul": "ko", "greek": "el", "hebrew": "he", "thai": "th", "devanagari": "hi"}
_STOP_WORDS = {
    "en": """the of and to in is that it for was on with as are be this by at from or have not which but you they we
    has were their what when how can will there been one if would who does an these i my your do where why did""",
    "de": """der die und das den von zu ist mit sich des auf für nicht ein eine dem im als auch es an werden aus er hat
    dass sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber vor zur bis was""",
    "fr": """le la les et des du une est pour que dans qui par sur pas plus au ce il sont avec ne se cette ou mais nous
    vous leur ses aux été être ces elle comme ont fait aussi je quel quelle où même un d l c'est qu'il""",
    "es": """el la los las y del una que por con para es se no su al lo como más pero sus le ha este está son entre
    cuando muy sin sobre también hasta hay donde desde todo nos durante uno ser fue qué cómo yo ese esta""",
    "it": """il lo gli e di che la è per un una sono con non del della dei delle alla nel nella si da anche come più ma
    questo questa ha al dal essere le suo loro o se cosa perché quando dove sulla degli tra""",
    "pt": """o os as e do da dos das uma um que em para é com não no na por mais se como mas foi ao ele sua ou ser
    quando muito há nos já está também pelo pela até isso ela são você seu qual""",
    "nl": """de het een en van is dat die te op zijn met voor niet aan er om ook als bij maar uit door naar heeft wordt
    deze dit worden over nog kan geen hij ze hebben wat was tot je meer zo hoe wij ik of""",
}
_LANGUAGES_OF: dict[str, list[str]] = {}
for _language, _words in _STOP_WORDS.items():
    for _word in _words.split():
        _LANGUAGES_OF.setdefault(_word, []).append(_language)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")


def detect_language(text: str) -> str:
    """The main language of ``text`` as an ISO 639-1 code, or "" when unsure.

    By script where that settles it (zh, ja, ko, ru, uk, ar, fa, he, el, th, hi), by stop words for Latin script (en,
    de, fr, es, it, pt, nl). Code and addresses are left out; only the first 20,000 characters are looked at.
    """
    sample = _CODE.sub(" ", text[:_SAMPLE])
    weights = Counter({n: len(letters.findall(sample)) * worth for n, (letters, worth) in _SCRIPT_PATTERNS.items()})
    cjk = weights["han"] + weights["kana"]
    if cjk and cjk >= max(weights.values()):
        return "ja" if weights["kana"] * 10 >= cjk else "zh"
    script, weight = weights.most_common(1)[0]
    if weight < 2:
        return ""
    if script == "latin":
        return _latin_language(sample)
    if script == "cyrillic":
        return "uk" if len(re.findall("[іїєґ]", sample)) > len(re.findall("[ыэъё]", sample)) else "ru"
    if script == "arabic":
        return "fa" if re.search("[پچژگ]", sample) else "ar"
    return _ONE_LANGUAGE[script]


def _latin_language(sample: str) -> str:
    words = [word.lower().replace("’", "'") for word in _WORD.findall(sample)]
    hits: Counter[str] = Counter()
    for word in words:
        for language in _LANGUAGES_OF.get(word, ()):
            hits[language] += 1
    if not hits:
        return ""
    (best, most), *others = hits.most_common(2)
    second = others[0][1] if others else 0
    sure = most >= 2 and most >= 0.1 * len(words) and most >= 1.3 * second
    return best if sure else ""


_TITLE_ATTRIBUTES = re.compile(r"\{[^{}]*\}\s*$")
_TITLE_LINK = re.compile(r"!?\[([^\[\]]*)\](?:\([^()]*\)|\[[^\[\]]*\])")
_TITLE_TAG = re.compile(r"<[^<>]*>")
_TITLE_SIGNS = re.compile(r"\*\*|__|[`*]|\\(?=[^\w\s])")


def clean_title(line: str) -> str:
    """A heading's words without Markdown signs, links, tags and attribute lists."""
    title = _TITLE_ATTRIBUTES.sub("", line.strip().rstrip("#"))
    return " ".join(_TITLE_SIGNS.sub("", _TITLE_TAG.sub("", _TITLE_LINK.sub(r"\1", title))).split())


# --- dates -------------------------------------------------------------------------------------------------------

_DIGITS_DATE = re.compile(r"(?:D:)?(\d{4})-?(\d{2})?-?(\d{2})?")


def read_date(text: str) -> date | None:
    """The day a file's metadata names: as PDF (D:20260521...), ISO 8601 (2026-05-21T...) or mail (RFC 5322) write it.

    A missing month or day is the first. None for anything else, and for years before 1900 or after 2200.
    """
    match = _DIGITS_DATE.match(text.strip())
    try:
        found = date(*(int(part or 1) for part in match.groups())) if match else parsedate_to_datetime(text).date()
    except (ValueError, TypeError, OverflowError):
        return None
    return found if 1900 <= found.year <= 2200 else None
