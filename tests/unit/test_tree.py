"""A conversation as a tree: every question is reachable, and a path leads through the turn that is asked for."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from inference import tree
from inference.models import Conversation


@st.composite
def trees(draw) -> dict[int, int | None]:
    """Turns that each follow none or an earlier one."""
    made: dict[int, int | None] = {}
    for pk in range(1, draw(st.integers(1, 12)) + 1):
        made[pk] = draw(st.sampled_from([None, *made]))
    return made


@given(trees(), st.data())
def test_a_path_leads_through_the_turn_that_is_asked_for(known, data):
    turn, current = data.draw(st.sampled_from(list(known))), data.draw(st.sampled_from([None, *known]))
    end = tree.end_of_path(known, Conversation(current_id=current), turn)
    path = tree.line(known, end)
    assert turn in path
    assert known[path[0]] is None
    assert all(known[after] == before for before, after in pairwise(path))
    if current and turn in tree.line(known, current):
        assert end == current
    else:
        assert end not in known.values()  # nothing follows it


@given(trees())
def test_every_turn_is_reached_by_stepping_between_alternatives(known):
    """From the path shown first, as a person does: to a version beside one that is seen, and on from there."""
    seen: set[int] = set()
    waiting = [tree.end_of_path(known, Conversation())]
    while waiting:
        path = tree.line(known, waiting.pop())
        beside = {version for one in path for version in tree.alternatives(known, one)}
        waiting += [tree.newest_below(known, one) for one in beside - seen]
        seen |= beside | set(path)
    assert seen == set(known)


def test_alternatives_are_in_the_order_of_asking():
    known = {1: None, 2: 1, 3: 1, 4: 2, 5: None, 6: 1}
    assert tree.alternatives(known, 3) == [2, 3, 6]
    assert tree.alternatives(known, 1) == [1, 5]
    assert tree.newest_below(known, 2) == 4


def test_a_conversation_without_turns_has_no_path():
    assert tree.end_of_path({}, Conversation()) is None
    assert tree.line({}, None) == []
