"""Whatever the network takes: every message is said once, and everything said is shown once."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from prefork_chat.client.entries import State
from tests.client.server import Wire

_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(1, 20)),
        st.tuples(st.just("hear"), st.integers(1, 3)),
        st.tuples(st.just("meanwhile"), st.integers(1, 3)),
        st.tuples(st.just("carry"), st.integers(1, 2)),
        st.tuples(st.just("break"), st.tuples(st.integers(0, 400), st.integers(0, 400))),
    ),
    max_size=15,
)


@settings(max_examples=300)
@given(_STEPS)
@example([("say", 20)] * 5 + [("meanwhile", 3)])  # more than a page, since the history was empty
def test_nothing_is_lost_and_nothing_is_doubled(  # noqa: C901 - one branch for each step
    steps: list[tuple[str, object]],
) -> None:
    """Breaks cut both directions at any byte: what the server has read, and what we have."""
    wire = Wire()
    wire.arrive()
    said, heard = [], []
    for number, (step, how) in enumerate(steps):
        match step, how:
            case "say", int(times):
                for index in range(times):
                    said.append(f"mine {number}.{index}")
                    wire.conversation.say("bob", said[-1], wire.now)
            case "hear", int(times):
                for index in range(times):
                    heard.append(f"bobs {number}.{index}")
                    wire.hear_from_bob(heard[-1])
            case "meanwhile", int(times):
                wire.lose()
                for index in range(times):
                    heard.append(f"bobs {number}.{index}")
                    wire.server.store("bob", "alice", heard[-1])
                wire.connect()
            case "carry", int(times):
                for _ in range(times):
                    wire.carry()
            case "break", (int(to_server), int(to_us)):
                answers = wire.answers(wire.conversation.take_output()[:to_server])
                wire.conversation.received(answers[:to_us], wire.now)
                wire.lose()
                wire.connect()
    wire.settle()
    told = [row[2] for row in wire.server.rows if row[0] == "alice"]
    assert told == said
    assert sorted(wire.texts()) == sorted(said + heard)
    mine = [entry for entry in wire.entries() if entry.is_mine]
    assert all(entry.state in (State.DELIVERED, State.STORED) for entry in mine)
