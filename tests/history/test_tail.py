"""What a body of the tail is made of, where it is cut, and who is found in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from prefork_chat.history import tail

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = ["bob", "BOB", "CHAT", "chat", "7", "40", "a.b", "bo", "obb"]
TEXTS = ["hi", "CHAT bob hi", "to bob ", "x 40", "CHAT", "Gr\u00fc\u00dfe an bob"]

Line = tuple[str, str, str]  # tag or "", destination, text
Said = tuple[int | str, int, list[Line]]  # a number or a name, room or 0, lines

lines = st.tuples(
    st.sampled_from(["", "", "9", "CHAT", "xCHAT"]), st.sampled_from(NAMES), st.sampled_from(TEXTS)
)
to_people = st.tuples(
    st.sampled_from([4, 40, 7, "Bob", "7"]), st.just(0), st.lists(lines, min_size=1)
)
to_rooms = st.tuples(
    st.sampled_from([4, 40]), st.sampled_from([5, 70]), st.lists(lines, min_size=1)
)
sections = st.lists(st.one_of(to_people, to_rooms), min_size=1, max_size=6)


def written(line: Line, room: int) -> bytes:
    tag, name, text = line
    if room:
        return text.encode()
    return f"{f'@{tag} ' if tag else ''}CHAT {name} {text}".encode()


def packed(said: Sequence[Said]) -> bytes:
    sections = []
    for sender, room, some in said:
        text = b"\n".join(written(line, room) for line in some)
        if isinstance(sender, str):
            sections.append(b"\x1e=%b\n%b" % (sender.encode(), text))
        else:
            sections.append(tail.section(sender, text, room))
    return b"".join(sections)


def test_a_small_batch_is_one_body() -> None:
    batch = packed([(4, 0, [("", "bob", "hi")]), (5, 0, [("", "eve", "ho")])])
    assert list(tail.cut(batch)) == [batch]


def test_a_large_batch_is_cut_between_sections() -> None:
    batch = packed([(number, 0, [("", "bob", "x" * 999)] * 3) for number in range(1, 30)])
    bodies = list(tail.cut(batch))
    assert b"".join(bodies) == batch
    assert len(bodies) > 4
    assert all(body.startswith(b"\x1e") for body in bodies)
    assert all(tail.BODY_BYTES <= len(body) < tail.BODY_BYTES + 4000 for body in bodies[:-1])
    assert sum(map(tail.count_all, bodies)) == 87


@given(said=sections, name=st.sampled_from(NAMES), number=st.sampled_from([4, 7, 40]))
def test_whoever_has_to_do_with_a_body_is_found_in_it(
    said: list[Said], name: str, number: int
) -> None:
    body = packed(said)
    traces = tail.traces(number, name.lower().encode())
    found = list(tail.select(100, body, body.lower(), traces))
    places = {first for first, *_ in found}
    assert len(found) == len(places)
    id_ = 100
    for sender, room, some in said:
        his = not room and (
            sender == number
            or (isinstance(sender, str) and sender.lower() == name.lower())
            or any(each[1].lower() == name.lower() for each in some)
        )
        if his:
            assert (id_, sender, room, [written(line, room) for line in some]) in found
        id_ += len(some)
    assert tail.count_all(body) == id_ - 100


@given(said=sections, room=st.sampled_from([5, 70]))
def test_a_room_is_found_in_a_body(said: list[Said], room: int) -> None:
    body = packed(said)
    traces = tail.traces(room, b"#dev")
    found = [each for each in tail.select(1, body, body.lower(), traces) if each[2] == room]
    assert len(found) == sum(each[1] == room for each in said)
