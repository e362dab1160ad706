"""When a person deletes a document, what answers took from it goes with it; a newer version of a file removes nothing.

An answer's sentences that rest on the document become "[…]", and the quotes and names of their sources go. Sentences
that a model wrote without citing the document stay: nobody can tell where they come from.
"""

from django.db import transaction
from django.db.models.signals import post_delete
from django.dispatch import receiver

from indexer.models import Document
from inference.models import Turn

GONE = "[…]"


@receiver(post_delete, sender=Document)
def forget_in_answers(instance: Document, **kwargs) -> None:
    """Remove a deleted document from every stored answer. In the transaction that deletes it."""
    if not instance.superseded:
        for turn in Turn.objects.select_for_update().filter(citations__contains=[{"document_id": instance.pk}]):
            redact(turn, {instance.pk})
            turn.save(update_fields=["text", "sentences", "citations"])


def keep(turn: Turn) -> None:
    """Save an answer that was just made, without what was deleted while it was made."""
    cited = {citation["document_id"] for citation in turn.citations}
    with transaction.atomic():
        # Locked, so that a deletion waits and then finds this answer among the stored ones.
        rows = Document.objects.select_for_update(no_key=True, of=("self",)).filter(pk__in=cited).order_by("pk")
        redact(turn, cited - set(rows.values_list("pk", flat=True)))
        turn.save()


def redact(turn: Turn, document_ids: set[int]) -> None:
    """Take these documents' quotes, names and sentences out of an answer; the places of the others move along."""
    gone = {place for place, one in enumerate(turn.citations) if one["document_id"] in document_ids}
    if not gone:
        return
    text, done, sentences = "", 0, []
    for sentence in turn.sentences:
        text += turn.text[done : sentence["start"]]
        start, done = len(text), sentence["end"]
        rests_on_it = gone.intersection(sentence.get("places", []))
        text += GONE if rests_on_it else turn.text[sentence["start"] : done]
        kept = {"citations": [], "places": [], "support": "supported", "why": ""} if rests_on_it else {}
        sentences.append(sentence | kept | {"start": start, "end": len(text)})
    turn.text, turn.sentences = text + turn.text[done:], sentences
    turn.citations = [
        one | {"document": "", "quote": "", "page": None} if place in gone else one
        for place, one in enumerate(turn.citations)
    ]
