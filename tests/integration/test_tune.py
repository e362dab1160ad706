"""`manage.py tune` over a real corpus."""

import io
import json
from dataclasses import replace

import pytest
from django.core.management import call_command

from indexer import corpora, tasks, tuning
from indexer.management.commands import tune as command
from indexer.models import Recipe
from indexer.upload import accept
from ragplat.errors import BadInput, NotFound

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("embed")]

TOPICS = {
    "lighthouse": "The lighthouse at the harbour mouth is 31 metres tall and was lit for the first time in 1862.",
    "ferry": "A ferry leaves for the islands every two hours and takes cars, bicycles and dogs on a lead.",
    "crane": "The largest crane lifts eighty tonnes and unloads a container ship in a single night.",
    "bakery": "Bread is baked before dawn: rye on weekdays, and sweet buns with cardamom on Sundays.",
    "museum": "The museum shows nets, oars and the diary of a fisherman who drifted at sea for forty days.",
    "school": "Children learn to sail from the age of nine; lessons are given in small dinghies.",
}
QUESTIONS = {
    "lighthouse": ("How high is the tower that guides ships?", "lighthouse first lit 1862"),
    "ferry": ("Can I bring my dog on the boat to the islands?", "ferry every two hours"),
    "crane": ("What weight can be lifted?", "crane eighty tonnes"),
    "bakery": ("Where do I get pastries on the weekend?", "cardamom buns Sundays"),
    "museum": ("exhibition about fishing history", "diary of a fisherman"),
    "school": ("How old must kids be for sailing lessons?", "dinghies lessons age nine"),
}


@pytest.fixture
def corpus():
    made = corpora.create("Harbour")
    for name, text in TOPICS.items():
        document = accept(made, f"town/{name}.txt", io.BytesIO(text.encode())).document
        tasks.index_document(document_id=document.pk)
    return made


@pytest.fixture
def files(tmp_path):
    """Queries and judgements in BEIR's form; names are given with and without suffix."""
    queries, qrels = [], ["query-id\tcorpus-id\tscore"]
    for topic, asked in QUESTIONS.items():
        for number, text in enumerate(asked):
            queries.append(json.dumps({"_id": f"{topic}-{number}", "text": text}))
            qrels.append(f"{topic}-{number}\ttown/{topic}{'.txt' * number}\t1")
    (tmp_path / "queries.jsonl").write_text("\n".join(queries))
    (tmp_path / "qrels.tsv").write_text("\n".join(qrels))
    return tmp_path


def tune(corpus: str, files, *options: str) -> str:
    out = io.StringIO()
    where = ("--queries", str(files / "queries.jsonl"), "--qrels", str(files / "qrels.tsv"))
    call_command("tune", corpus, *where, *options, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def test_the_report_and_a_saved_recipe(corpus, files):
    with (files / "qrels.tsv").open("a") as file:
        file.write("\nferry-0\ttown/gone\t1\nelsewhere\ttown/gone\t1\nnowhere\ttown/ferry\t1\n")
    report = json.loads(tune("harbour", files, "--json"))
    assert report["train_queries"] + report["test_queries"] == 12
    rows = {row["name"]: row["ndcg"] for row in report["rows"]}
    assert rows["dense alone"] > 0.6
    assert rows["tuned weight"] - rows["present weight"] == pytest.approx(report["gain"])
    assert [note.split()[:3] for note in report["notes"]] == [
        ["1", "judged", "documents"],
        ["1", "judged", "queries"],
        ["1", "judged", "queries"],
    ]
    assert report["recommended"] == report["present"] == 0.4
    assert report["saved"] is None

    shown = tune("harbour", files, "--save", "town")
    assert "Only" in shown
    assert "Keep the present weight 0.40." in shown
    assert "No recipe was saved" in shown
    assert not Recipe.objects.filter(name="town").exists()


def test_a_weight_that_is_surely_better_is_saved(corpus, files, monkeypatch):
    def surely(*args, **options):
        return replace(tuning.tune(*args, **options), tuned=0.7, recommended=0.7, warnings=())

    monkeypatch.setattr(command, "tune", surely)
    shown = tune("harbour", files, "--save", "town")
    made = Recipe.objects.get(kind="answer", name="town")
    assert f"Saved as the answer recipe town@1, with number {made.pk}." in shown
    assert f"/admin/indexer/corpus/{corpus.pk}/change/" in shown
    assert made.value() == replace(corpus.answer_recipe.value(), dense_weight=0.7)
    assert json.loads(tune("harbour", files, "--save", "town", "--seed", "1", "--json"))["saved"] == "town@2"
    corpus.refresh_from_db()
    assert corpus.answer_recipe.name == "default"


def test_what_comes_after_the_fusion_plays_no_part(corpus, files):
    expected = json.loads(tune("harbour", files, "--json"))
    changed = corpus.answer_recipe.params | {"threshold": 0.99, "collapse": 0.01, "expand": "neighbours"}
    corpus.answer_recipe = Recipe.objects.create(kind="answer", name="strict", params=changed)
    corpus.save()
    assert json.loads(tune("harbour", files, "--json")) == expected


def test_errors_say_what_to_do(corpus, files):
    with pytest.raises(NotFound, match="harbour"):
        tune("nowhere", files)
    with pytest.raises(BadInput, match='named "my recipe"'):
        tune("harbour", files, "--save", "my recipe")
    with pytest.raises(BadInput, match="at most 60"):
        tune("harbour", files, "--save", "x" * 61)
    with pytest.raises(BadInput, match="built in"):
        tune("harbour", files, "--save", "default")
    with pytest.raises(BadInput, match="above 0 and below 1"):
        tune("harbour", files, "--train", "1.5")
    corpora.create("Empty")
    with pytest.raises(BadInput, match="no document that is ready"):
        tune("empty", files)
    (files / "qrels.tsv").write_text("unasked\ttown/ferry.txt\t1\n")
    with pytest.raises(BadInput, match='no query with the id "unasked"'):
        tune("harbour", files)
    (files / "qrels.tsv").write_text("ferry-0\tvillage/ferry.txt\t1\n")
    with pytest.raises(BadInput, match=r'such as "village/ferry.txt"; .* such as "town/bakery.txt"'):
        tune("harbour", files)
    (files / "queries.jsonl").unlink()
    with pytest.raises(BadInput, match="There is no file"):
        tune("harbour", files)
