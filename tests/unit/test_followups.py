"""Follow-up questions: completed where they lean on the question before, untouched where they do not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.followups import complete

INSTALL = "How do I install the worker on Linux?"
SUBJECT = "install the worker on Linux"

LEANS = [
    "And on Windows?",
    "and for Windows",
    "On macOS?",
    "Windows?",
    "What about Windows?",
    "How about with Docker?",
    "Why?",
    "But why?",
    "Why not?",
    "How long?",
    "And then?",
    "For how long?",
    "What else?",
    "For example?",
    "Tell me more.",
    "Could you give me an example?",
    "How long does it take?",
    "How long does it take to finish?",
    "Is it safe?",
    "Is it safe to delete it?",
    "Can I undo it later?",
    "What does it cost?",
    "What happens when it fails?",
    "On Windows, how do I start it?",
    "Does the admin have to restart it?",
    "Where are they stored?",
    "What is its default port?",
    "Who maintains them?",
    "Why is that?",
    "How do I do that?",
    "Is that option still supported?",
    "Does this need root?",
    "Are these steps documented?",
    "Which one is faster?",
    "What about the second one?",
    "What is the difference to the latter?",
    "Why did he leave?",
    "How do I get there?",
]
STANDS = [
    "How do I delete a corpus?",
    "And how do I delete a corpus?",
    "What is the default port?",
    "Is it possible to export a corpus as CSV?",
    "Is it safe to delete the index?",
    "How long does it take to index a PDF?",
    "What does it mean if a document is empty?",
    "Does it matter whether the files are scanned?",
    "If a document fails, can I upload it again?",
    "How do I rotate an API key and when does it expire?",
    "When the database is full, what happens to it?",
    "Which documents that failed are retried?",
    "Are there formats that cannot be parsed?",
    "Is there a limit on file size, and can I raise it?",
    "Which one is faster, HNSW or IVFFlat?",
    "What did Marie Curie win her first Nobel prize for?",
    "Does PostgreSQL compress its log?",
    "Do users see each other's files when they share a corpus?",
    "What does the IT department need?",
    "Who are those who may edit a corpus?",
    "What is this project about?",
    "In what country is Normandy located?",
    "When was the treaty that ended the war signed?",
    "Compare HNSW and IVFFlat.",
    "vacuum settings",
    "List all commands",
    "Explain how hybrid search works.",
    "What is state-of-the-art retrieval?",
    "How many documents can a corpus hold?",
    "Was there a war in 1066?",
    "Do drafts and final versions use the same format?",
    "Which of the two modes is better for short questions?",
]
INSTALL_ZH = "如何在Linux上安装工作进程？"
SUBJECT_ZH = "在Linux上安装工作进程"
LEANS_ZH = [
    "那Windows呢？",
    "Windows呢？",
    "那在Windows上呢？",
    "价格呢",
    "那么内存呢？",
    "为什么？",
    "为什么呢？",
    "那怎么办？",
    "需要多久？",
    "大概多长时间？",
    "还有吗？",
    "举个例子",
    "详细说说",
    "它需要多久？",
    "怎么停止它？",
    "在Windows上怎么启动它？",
    "它们存在哪里？",
    "这个选项默认是什么？",
    "这是为什么？",
    "那个文件在哪里？",
    "其默认端口是多少？",
    "该功能收费吗？",
    "他是谁？",
    "前者更快吗？",
]
STANDS_ZH = [
    "如何删除语料库？",
    "那如何删除语料库呢？",
    "默认端口是多少？",
    "哪些格式不能解析？",
    "如果文档解析失败，可以重新上传它吗？",
    "PostgreSQL和它的扩展怎么升级？",
    "其他格式也支持吗？",
    "应该怎么备份数据库？",
    "为什么索引这么慢？",
    "其实混合检索是什么？",
    "因此需要重启服务吗？",
    "诺曼底公爵征服英格兰之后他做了什么？",
    "这个项目是做什么的？",
    "吉他有几根弦？",
    "删除语料库",
    "能不能导出对话记录？",
]


@pytest.mark.parametrize("question", LEANS)
def test_a_question_that_leans_gets_the_subject(question):
    body = question.rstrip("?.")
    assert complete(question, INSTALL) == f"{body} ({SUBJECT}){question[len(body) :]}"


@pytest.mark.parametrize("question", LEANS_ZH)
def test_a_chinese_question_that_leans_gets_the_subject(question):
    body = question.rstrip("？")
    assert complete(question, INSTALL_ZH) == f"{body}（{SUBJECT_ZH}）{question[len(body) :]}"


@pytest.mark.parametrize("question", STANDS + STANDS_ZH)
@pytest.mark.parametrize("before", [INSTALL, INSTALL_ZH])
def test_a_question_that_stands_on_its_own_is_untouched(question, before):
    assert complete(question, before) == question


@pytest.mark.parametrize(
    ("before", "subject"),
    [
        ("What is the default port of the web server?", "default port of the web server"),
        ("Who wrote Hamlet?", "wrote Hamlet"),
        ("Please explain how hybrid search works.", "hybrid search works"),
        ("Why does the worker restart?", "worker restart"),
        ("And on Windows (install the worker on Linux)?", "Windows install the worker on Linux"),
        ("why?", "why"),
        ("Ragplat的默认端口是多少？", "Ragplat的默认端口"),
        ("请问什么是混合检索？", "混合检索"),
        ("数据库什么时候备份？", "数据库备份"),
        ("哪些格式支持OCR？", "格式支持OCR"),
        ("为什么？", "为什么"),
    ],
)
def test_the_subject_is_the_question_without_what_only_asks(before, subject):
    assert complete("How long does it take?", before) == f"How long does it take ({subject})?"


def test_a_subject_that_is_there_already_is_not_repeated():
    assert complete("Why install the worker on Linux with it?", INSTALL) == "Why install the worker on Linux with it?"


@given(st.text(max_size=80), st.text(max_size=80))
def test_nothing_of_a_question_is_ever_lost(question, before):
    completed = complete(question, before)
    body = question.rstrip(" \t\n?？.。!！")
    assert completed == question or (completed.startswith(body) and len(completed) > len(body) + 2)


@given(st.sampled_from(STANDS + STANDS_ZH), st.text(max_size=80))
def test_what_stands_is_untouched_whatever_came_before(question, before):
    assert complete(question, before) == question
