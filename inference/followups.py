"""Follow-up questions completed by rules: "and on Windows?" after "How do I install the worker?".

A question is touched only on a clear sign that it leans on the one before: a pronoun that nothing in the question
itself explains, or too few words to ask anything. What it leans on is added in brackets, so nothing it says is lost.
"""

import re

from inference.words import content_terms
from ragplat.text import is_cjk


def complete(question: str, before: str) -> str:
    """``question`` with the subject of ``before``, the question asked before it; as it is if it needs none.

    Knows English and Chinese; questions in other languages stay as they are, but for signs that look like English.
    """
    chinese = any(map(is_cjk, question))
    leans = _leans_zh(question) if chinese else _leans_en(question)
    subject = _subject(before) if leans else ""
    if not subject or subject.casefold() in question.casefold():
        return question
    body = question.rstrip(" \t\n?？.。!！")
    end = question[len(body) :].strip()
    return f"{body}（{subject}）{end}" if chinese else f"{body} ({subject}){end}"


def _subject(question: str) -> str:
    """What a question is about: its words without those that only ask."""
    text = " ".join(re.sub(r"[()（）]", " ", question).split()).strip("?？.。!！ ")
    if any(map(is_cjk, text)):
        return _ASKING_ZH.sub("", text).strip("，,：: ") or text
    words = text.split()
    while words and _only_asks(words[0]):
        del words[0]
    return " ".join(words) or text


# --- English ---------------------------------------------------------------------------------------------------------

_ASKING_EN = re.compile(
    r"please|tell|explain|describe|show|give|list|know|want|like|exactly|long|often|far|old|ok|okay|well|then|also|think"
    r"|say|mean|let's|i'd|i'm|what's|who's|where's|how's"
)
_ALONE = re.compile(  # the whole question, but for "and", "but"...
    r"""(?:(?:(?:for|since|until|by|with|to|at|from|in|of)\ )?(?:why|how|when|where|who|whom|which|what
            |how\ (?:much|many|long|often|so|come|far|exactly))
        |why\ not|(?:what|who|where|how|anything|anyone)\ else|what\ (?:for|next|now)|like\ what
        |for\ (?:example|instance)|in\ what\ way|is\ that\ all|really|are\ you\ sure
        |(?:(?:could|can)\ you\ |please\ )*(?:(?:tell\ me\ |say\ )?more(?:\ details?)?|go\ on|continue|elaborate|explain
            |(?:give\ (?:me\ )?)?(?:an?y?\ )?examples?)
    )(?:\ (?:please|then|exactly))?""",
    re.IGNORECASE | re.VERBOSE,
)
_OPENING = re.compile(r"(?:(?:and|but|or|so|then|also|ok|okay|well)\b[\s,]*)+", re.IGNORECASE)
_ABOUT = re.compile(r"(?:what|how) about\b", re.IGNORECASE)
_PREPOSITIONS = "for|on|in|with|without|at|by|from|under|via|using|as|to|about|since|until|before|after|between"
_PREPOSITION = re.compile(rf"(?:{_PREPOSITIONS})\b", re.IGNORECASE)
_SETTING = re.compile(rf"^(?:{_PREPOSITIONS})\s[^,]*,", re.IGNORECASE)  # "On Windows, how..."
_DOING = "is|are|was|were|do|does|did|can|could|will|would|shall|should|may|might|must"
_FUNCTION = f"{_DOING}|has|have|had"
_VERB = re.compile(
    rf"\b(?:{_FUNCTION}|be|am|(?:{_FUNCTION})n['’]t|can['’]t|won['’]t|who|whom|whose|what|which|when|where|why|how)\b",
    re.IGNORECASE,
)
_POINTING = (  # group 1 stands for a thing; "IT" is none
    re.compile(r"\b((?-i:[Ii]t)(?!['’]s)|they|them|he|she|him|this|these|those)\b", re.IGNORECASE),
    re.compile(r"\b((?:which|that|this|another|other|first|second|third|last|next) ones?)\b(?! of\b)", re.IGNORECASE),
    re.compile(r"\b(the (?:former|latter))\b|\b(?:the (?:same|others?))$", re.IGNORECASE),
    # "that" after a content word is mostly a relative ("files that failed"), at the end it never is
    re.compile(rf"(?:^|\b(?:{_DOING}|why|how|about|of|like|than|{_PREPOSITIONS}) )(that)\b|\b(that)$", re.IGNORECASE),
    re.compile(r"(?<!\bis )(?<!\bare )\b(there)$", re.IGNORECASE),
)
_OWNING = re.compile(r"\b(?:its|it['’]s|their|his|her)\b", re.IGNORECASE)
_NOT_POINTING = re.compile(  # "it" that stands for nothing, "those who", "this year"
    r"""\bit(?:\ is|['’]s|\ was|\ be|\ make)?(?:\ \w+)??\ (?:possible|necessary|safe|ok|okay|allowed|better|best|worth
        |true|normal|recommended|advisable|required|needed|hard|easy|easier|difficult|wise|legal|common|useful|important
        |likely|enough|good|bad|faster|cheaper|sense|an?\ good\ idea|takes?|took|costs?|means?|seems?|appears?|matters?
        |helps?)
        (?:\ \w+){0,4}?\ (?:to|that|if|whether|when|for)\ \w+\ \w+
    |\b(?:is|was)\ it\ (?:believed|estimated|said|called|thought|considered|claimed|reported)\b
    |\bit\ comes\ to\b | \bwhat\ time\ is\ it\b | \b(?:why|how)\ is\ it\ that\b
    |\b(?:those|these)\ (?:\w+\ )?(?:who|that|which|of|with|in|from|whose|days)\b
    |\bthis\ (?:year|month|week|morning|evening|century|project|platform|product|software|documentation|manual)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_CLAUSE = re.compile(
    r"[,;:.!?]|\b(?:and|but|or|so|if|when|while|after|before|because|since|until|once|unless|without|as|by|who|which|that"
    r"|where|whether)\b",
    re.IGNORECASE,
)
_NOUN_PHRASE = re.compile(
    r"\b(?:an?|the|my|our|your|each|every|any|some|all|no|two|three|several|many|most|of|named|called)\s+[\w'’-]+",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?<=\s)(?!I\b)[A-Z]\w*|\w[_./]\w|`[^`]+`|\"[^\"]+\"")


def _only_asks(word: str) -> bool:
    bare = word.strip(",;:").lower().replace("’", "'")
    return _ASKING_EN.fullmatch(bare) is not None or not content_terms(bare, "en")


def _leans_en(question: str) -> bool:
    text = " ".join(question.split()).rstrip("?.! ")
    opening = _OPENING.match(text)
    rest = text[opening.end() :] if opening else text
    if _ALONE.fullmatch(rest) or _ABOUT.match(rest):
        return True
    if not _VERB.search(rest):
        return _is_fragment(rest, opened=opening is not None, asked=question.rstrip().endswith("?"))
    return _points(rest)


def _is_fragment(rest: str, *, opened: bool, asked: bool) -> bool:
    """Whether words without a verb need one of the question before: "and on Windows", "for how long?", "Windows?"."""
    words = len(rest.split())
    placed = _PREPOSITION.match(rest) is not None
    return words <= 8 and ((opened and placed) or (asked and (opened or placed or words <= 2)))


def _points(text: str) -> bool:
    """Whether a pronoun of ``text`` stands for something that ``text`` does not name before it.

    An owner may be named in the same clause, anything else in an earlier one: in "Does the worker restart it?", "it" is
    not the worker.
    """
    text = _SETTING.sub("", text)
    empty = _NOT_POINTING.sub(
        lambda found: re.sub(r"\b(?:it|this|these|those)\b", "-", found[0], count=1, flags=re.I), text
    )
    for pattern in _POINTING:
        for found in pattern.finditer(empty):
            before = empty[: found.start(found.lastindex or 0)]
            own_clause = _CLAUSE.split(before)[-1]
            if not _names_something(before[: len(before) - len(own_clause)]) and not _offers_choice(empty, found):
                return True
    return any(not _names_owner(empty[: found.start()]) for found in _OWNING.finditer(empty))


def _names_something(text: str) -> bool:
    return bool(_NOUN_PHRASE.search(text) or _NAME.search(text)) or sum(map(_says, text.split())) >= 2


def _names_owner(text: str) -> bool:
    return _names_something(text) or bool(re.match(r"who \w", text, re.IGNORECASE))  # "Who moved his court?"


def _says(word: str) -> bool:
    return bool(content_terms(word, "en"))


def _offers_choice(text: str, found: re.Match[str]) -> bool:
    """Whether "which one" is followed by what to choose from."""
    return found[0].lower().startswith("which") and " or " in text[found.end() :]


# --- Chinese ---------------------------------------------------------------------------------------------------------

_ASKING_ZH = re.compile(
    r"^(?:请问|请|我想知道|我想问|想问一下|那么|那|还有|可以|能否|是否)+"
    r"|(?:是什么意思|是什么|是谁|是多少|有多少|有哪些|有什么|多少钱|在哪里|在哪儿|怎么办|怎么做|怎么样|要多久|需要多久|吗|呢|啊|了)+$"
    r"|什么是|谁是|为什么|为何|如何|怎么样|怎样|怎么|什么时候|何时|哪些|哪个|哪种|多少|什么|能不能|是不是"
)
_OPENING_ZH = re.compile(
    r"(?:那么|那(?![个些种里样儿边时位款])|还有(?![吗什哪别其])|另外|然后|而且|但是|不过|可是|所以|请问|好的?|[，,\s])+"
)
_ALONE_ZH = re.compile(
    r"(?:具体|大概|一般|又|是|要|需要|请|你能|能)*(?:为什么|为何|怎么(?:办|做|样|用)?|如何|什么时候|何时|(?:在)?哪(?:里|儿)?|谁|多少钱?"
    r"|多久|多长时间|几个|哪个|哪些|什么|(?:还)?有(?:什么|哪些|别的|其他的?)?|别的|其他的?|比如|例如|举(?:个|一个)?例子?(?:说明)?|真的|确定"
    r"|(?:详细|再|具体|多)?(?:说说|说一下|讲讲|解释(?:一下)?|介绍(?:一下)?)|详细(?:一?点|一些)|继续)(?:呢|吗|啊|呀|了|说说)*"
)
_SENTENCE_ZH = re.compile(r"什么|怎|如何|为何|哪|谁|多少|多久|多长|几|是否|能否|何时|吗|不|没")
_POINTING_ZH = re.compile(
    r"它们?|她们?|他们|(?<![其吉])他(?![人国乡])|前者|后者|上述"
    r"|这(?!么|年|几年|些年|个(?:项目|平台|系统|软件|网站|产品)|[份本](?:文档|手册))|那(?=[个些种里样儿边时位款])"
    r"|(?<![尤极与何更])其(?![他它实中余次])|(?<![因彼如由从])此(?![外时次后前刻])"
    r"|(?<!应)该(?=功能|设置|选项|参数|文件|方法|命令|模型|公司|产品|版本|地区|国|城市|人|书|文档|索引)"
)
_PLACE_ZH = re.compile(r"在[^，,]*?[上中里下]")
_CLAUSE_ZH = re.compile(r"[，,；;：:。？?！!]")
_LONG_ZH = 6  # characters before a pronoun that are likely to name what it stands for...
_OWNER_ZH = 4  # ...and before an owner


def _leans_zh(question: str) -> bool:
    text = question.strip().rstrip("?？.。!！ ")
    opening = _OPENING_ZH.match(text)
    rest = text[opening.end() :] if opening else text
    if _ALONE_ZH.fullmatch(rest) or not rest:
        return True
    asked = question.rstrip().endswith(("?", "？"))
    if not _SENTENCE_ZH.search(rest) and len(rest) <= 20 and (rest.endswith("呢") or (asked and opening)):
        return True
    return any(not _explained_zh(rest[: found.start()], rest[found.end() :]) for found in _POINTING_ZH.finditer(rest))


def _explained_zh(before: str, after: str) -> bool:
    """Whether the words before a pronoun name what it stands for."""
    if before.endswith(("和", "与", "及", "跟")):
        return True
    *earlier, own = (_letters_zh(clause) for clause in _CLAUSE_ZH.split(before))
    return own >= (_OWNER_ZH if after.startswith("的") else _LONG_ZH) or any(letters > 2 for letters in earlier)


def _letters_zh(clause: str) -> int:
    return len(re.findall(r"[^\W\da-zA-Z]|[a-zA-Z]+", _ASKING_ZH.sub("", _PLACE_ZH.sub("", clause))))
