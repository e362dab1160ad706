"""A conversation as a tree: each question follows another; those that follow the same one are alternatives.

A page shows one path of it, from a first question to a last one. Ids grow with time, so a turn's id is greater than
those of all turns before it.
"""

from collections.abc import Mapping

from django.db.models import F

from inference.models import Conversation, Turn

Parents = Mapping[int, int | None]  # the id of each turn to that of the turn it follows


def parents(conversation_id: int) -> dict[int, int | None]:
    """The whole tree of a conversation, in the order of asking. One query."""
    return dict(Turn.objects.filter(conversation=conversation_id).order_by("pk").values_list("pk", "parent_id"))


def line(tree: Parents, pk: int | None) -> list[int]:
    """The turns from the first question to this one, which is included."""
    found = []
    while pk is not None:
        found.append(pk)
        pk = tree[pk]
    return found[::-1]


def newest_below(tree: Parents, pk: int) -> int:
    """The last question asked below a turn, or the turn itself."""
    below = {pk}
    for one in sorted(tree):
        if tree[one] in below:
            below.add(one)
    return max(below)


def alternatives(tree: Parents, pk: int) -> list[int]:
    """The turns that follow the same one as this turn, which is included, oldest first."""
    return sorted(one for one, parent in tree.items() if parent == tree[pk])


def end_of_path(tree: Parents, conversation: Conversation, through: int | None = None) -> int | None:
    """Where the path to show ends: the one shown last, if it leads ``through`` that turn, else the newest that does.

    None for a conversation without turns.
    """
    last = conversation.current_id if conversation.current_id in tree else max(tree, default=None)
    if through is None or through in line(tree, last):
        return last
    return newest_below(tree, through)


def path(turn: Turn) -> list[Turn]:
    """The turns before this one on its path, oldest first: of their traces, which are large, only `shown`."""
    before = line(parents(turn.conversation_id), turn.parent_id)
    return list(Turn.objects.defer("trace").annotate(shown=F("trace__shown")).filter(pk__in=before).order_by("pk"))
