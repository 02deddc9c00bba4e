from __future__ import annotations

import pytest

from prefork_chat.client.conversation import Conversation
from prefork_chat.client.entrance import Phase
from prefork_chat.client.entries import State
from prefork_chat.client.events import Added, Asked, Changed, Question, Recalled
from tests.client.server import Server, Wire


def last_state(wire: Wire, talk: str = "bob") -> State | None:
    return wire.entries(talk)[-1].state


def asked(wire: Wire) -> list[Question]:
    return [e.question for e in wire.conversation.take_events() if isinstance(e, Asked)]


def test_a_message_is_waiting_then_sent_then_delivered() -> None:
    wire = Wire()
    wire.prompt.typed("/msg bob hi", wire.now)
    assert last_state(wire) is State.WAITING
    wire.connect()
    wire.carry()  # JOIN
    output = wire.conversation.take_output()
    assert b" CHAT bob hi\n" in output
    assert last_state(wire) is State.SENT
    wire.conversation.received(wire.answers(output), wire.now)
    assert last_state(wire) is State.DELIVERED


def test_what_is_stored_for_somebody_away_says_so() -> None:
    wire = Wire()
    wire.arrive()
    wire.conversation.say("bob", "hi", wire.now)
    output = wire.conversation.take_output()
    tag = output.split(b" ")[0].decode()
    wire.hear(f"{tag} OK CHAT bob stored")
    assert last_state(wire) is State.STORED


def test_a_refused_message_has_failed_and_says_why() -> None:
    wire = Wire()
    wire.arrive()
    wire.type("/msg carol hi")
    entry = wire.entries("carol")[0]
    assert (entry.state, entry.reason) == (State.FAILED, "carol is not here")


def test_in_a_room_it_is_known_how_many_were_reached() -> None:
    wire = Wire()
    wire.arrive()
    wire.type("/join #dev", "hello all")
    assert wire.entries("#dev")[0].reached == 2


def test_what_is_typed_goes_to_the_current_talk() -> None:
    wire = Wire(Server(people=["bob", "carol"]))
    wire.arrive()
    wire.type("/msg bob hi", "again", "/join #dev", "all", "/msg carol", "you", "//etc", "/nope")
    assert wire.texts("bob") == ["hi", "again"]
    assert wire.texts("#dev") == ["all"]
    assert wire.texts("carol") == ["you", "/etc"]
    assert "/nope is no command" in wire.remarks()[-1]


def test_with_nobody_to_talk_to_nothing_is_said() -> None:
    wire = Wire()
    wire.arrive()
    wire.type("hello?")
    assert "to whom?" in wire.remarks()[-1]


def test_who_speaks_first_is_answered() -> None:
    wire = Wire()
    wire.arrive()
    wire.hear("CHAT bob hi")
    wire.type("hi bob")
    assert wire.texts("bob") == ["hi", "hi bob"]


def test_what_comes_elsewhere_is_counted_as_unread_until_one_looks() -> None:
    wire = Wire()
    wire.arrive()
    wire.type("/join #dev")
    wire.hear("CHAT bob hi", "CHAT bob hello?", "CHAT #dev carol read at once")
    wire.type("/msg bob")
    wire.hear("CHAT #dev carol what about Alice?", "CHAT #dev carol and malice")
    dev, bob = wire.conversation.talks.get("#dev"), wire.conversation.talks.get("bob")
    assert (bob.unread, bob.mentions) == (0, 0)
    assert (dev.unread, dev.mentions) == (2, 1)
    wire.type("/join #dev")
    assert (dev.unread, dev.mentions) == (0, 0)


def test_rooms_are_entered_again_after_a_reconnect() -> None:
    wire = Wire()
    wire.arrive()
    wire.type("/join #dev", "/join #ops", "/part #ops")
    wire.lose()
    wire.server.got.clear()
    wire.arrive()
    entered = [line for line in wire.server.got if " ENTR " in line]
    assert [line.split()[-1] for line in entered] == ["#dev"]
    assert any("connected again" in text for text in wire.remarks())


def test_a_room_that_is_refused_is_not_entered_again() -> None:
    wire = Wire(Server(refusals={"ENTR": ["DENIED not you"]}))
    wire.arrive()
    wire.type("/join #dev")
    assert wire.remarks()[-1] == "not you"
    wire.lose()
    wire.server.got.clear()
    wire.arrive()
    assert not any(" ENTR " in line for line in wire.server.got)


def test_each_reconnect_waits_longer_until_one_succeeds() -> None:
    conversation = Conversation("alice", chance=lambda: 1.0)
    waits = []
    now = 0.0
    for _ in range(12):
        conversation.lost(now, "refused")
        assert conversation.entrance.connect_at is not None
        waits.append(conversation.entrance.connect_at - now)
        now = conversation.entrance.connect_at
    assert waits == [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30, 30]
    wire = Wire(chance=lambda: 1.0)
    wire.arrive()
    wire.lose()
    assert wire.conversation.entrance.connect_at == wire.now + 0.25


def test_that_the_connection_is_lost_is_said_once() -> None:
    wire = Wire()
    wire.arrive()
    for _ in range(3):
        wire.lose()
    assert sum("no connection (cut)" in text for text in wire.remarks()) == 1


def test_what_is_said_without_a_connection_is_sent_when_there_is_one() -> None:
    wire = Wire()
    wire.arrive()
    wire.lose()
    wire.prompt.typed("/msg bob still here", wire.now)
    wire.arrive()
    assert wire.server.rows == [("alice", "bob", "still here")]
    assert last_state(wire) is State.DELIVERED


def test_a_message_without_receipt_is_found_in_the_history_and_not_sent_again() -> None:
    wire = Wire()
    wire.arrive()
    wire.conversation.say("bob", "hi", wire.now)
    wire.answers(wire.conversation.take_output())  # the server has it; its answer is lost
    wire.lose()
    wire.arrive()
    assert wire.server.rows == [("alice", "bob", "hi")]
    assert last_state(wire) is State.STORED


@pytest.mark.parametrize("is_lost", [True, False])
def test_before_the_history_was_looked_at_no_old_row_speaks_for_a_new_message(
    is_lost: bool,
) -> None:
    wire = Wire()
    wire.conversation = Conversation("alice", epoch=1_000_000 - 1000)
    wire.server.store("alice", "bob", "hi")  # long ago
    wire.server.rows += [("bob", "carol", "")] * 500
    wire.connect()
    wire.carry()
    wire.now += 500  # by the server's clock, too
    wire.conversation.say("bob", "hi", wire.now)
    output = wire.conversation.take_output()
    if not is_lost:
        wire.answers(output)
    wire.lose()
    wire.arrive()
    assert [row[2] for row in wire.server.rows].count("hi") == 2
    assert wire.entries()[-1].is_repeated is is_lost


@pytest.mark.parametrize("knows_after", [True, False])
def test_a_message_that_did_not_arrive_is_sent_again_once(knows_after: bool) -> None:
    wire = Wire(Server(knows_after=knows_after))
    wire.server.store("bob", "alice", "old")
    wire.arrive()
    wire.conversation.say("bob", "hi", wire.now)
    wire.conversation.take_output()  # and it is lost
    wire.lose()
    wire.arrive()
    assert wire.server.rows == [("bob", "alice", "old"), ("alice", "bob", "hi")]
    entry = wire.entries()[-1]
    assert (entry.state, entry.is_repeated) == (State.DELIVERED, True)


def test_a_guests_message_without_receipt_is_sent_again_once_and_then_unsure() -> None:
    wire = Wire(Server(has_history=False))
    wire.arrive()
    wire.conversation.say("bob", "hi", wire.now)
    wire.conversation.take_output()
    wire.lose()
    wire.connect()
    while not wire.entries()[0].is_repeated:
        assert wire.carry() or wire.pass_time()
    assert b"CHAT bob hi" in wire.conversation.take_output()
    wire.lose()
    wire.arrive()
    assert last_state(wire) is State.UNSURE
    assert wire.entries()[0].is_repeated


def test_what_was_said_meanwhile_is_caught_up_with_and_unread() -> None:
    wire = Wire()
    wire.arrive()
    wire.type("/join #dev")
    wire.hear_from_bob("one", "#dev")
    wire.lose()
    wire.server.store("bob", "#dev", "two")
    wire.server.store("bob", "alice", "psst")
    wire.conversation.take_events()
    wire.arrive()
    news = [e for e in wire.conversation.take_events() if isinstance(e, Recalled) and e.is_news]
    assert sorted(entry.text for event in news for entry in event.entries) == ["psst", "two"]
    assert wire.texts("#dev") == ["one", "two"]
    assert wire.conversation.talks.get("bob").unread == 1


def test_long_absences_are_caught_up_with_page_by_page() -> None:
    wire = Wire()
    wire.server.store("bob", "alice", "first")
    wire.arrive()
    wire.lose()
    for number in range(250):
        wire.server.store("bob", "alice", str(number))
    wire.arrive()
    assert wire.texts() == ["first", *(str(number) for number in range(250))]


def test_what_the_server_had_stored_for_us_is_not_shown_twice_after_a_reconnect() -> None:
    wire = Wire()
    wire.arrive()
    wire.lose()
    wire.server.store("bob", "alice", "while you were away")
    wire.arrive()  # it comes from the history
    wire.hear("CHAT bob while you were away", "CHAT bob while you were away")
    assert wire.texts() == ["while you were away"] * 2  # the second is a new one


def test_what_guests_have_said_is_known_again_in_the_history() -> None:
    wire = Wire()
    wire.arrive()
    wire.hear("CHAT bob hi")
    wire.server.store("~bob", "alice", "hi")
    wire.lose()
    wire.server.store("~bob", "alice", "still there?")
    wire.arrive()
    assert wire.texts() == ["hi", "still there?"]
    assert wire.entries()[1].sender == "~bob"


def test_the_history_is_shown_at_the_beginning_and_is_not_unread() -> None:
    wire = Wire()
    wire.server.store("bob", "alice", "yesterday")
    wire.arrive()
    assert wire.texts() == ["yesterday"]
    assert wire.entries()[0].is_old
    assert wire.conversation.talks.get("bob").unread == 0


def test_missed_room_messages_come_from_the_history() -> None:
    wire = Wire()
    wire.arrive()
    wire.type("/join #dev")
    wire.server.store("bob", "#dev", "too fast for you")
    wire.hear("NOTE MISSED 1 #dev")
    wire.settle()
    assert wire.texts("#dev") == ["too fast for you"]


def test_an_unsure_answer_is_looked_up_in_the_history() -> None:
    wire = Wire()
    wire.arrive()
    wire.conversation.say("bob", "hi", wire.now)
    output = wire.conversation.take_output()
    wire.answers(output)
    wire.hear(f"{output.split()[0].decode()} ERR CHAT UNSURE bob may have got it")
    assert last_state(wire) is State.UNSURE
    wire.settle()
    assert last_state(wire) is State.STORED


def test_after_a_resume_what_has_no_answer_is_doubtful() -> None:
    wire = Wire()
    wire.arrive()
    wire.conversation.say("bob", "hi", wire.now)
    wire.conversation.take_output()
    wire.hear("NOTE RESUMED: commands without an answer may or may not have been carried out")
    wire.settle()
    assert wire.server.rows == [("alice", "bob", "hi")]
    assert wire.entries()[-1].is_repeated


def test_a_taken_name_is_asked_for_and_the_next_line_is_the_answer() -> None:
    wire = Wire(Server(refusals={"JOIN": ["INUSE alice is taken"]}))
    wire.connect()
    wire.carry()
    assert asked(wire) == [Question.NAME]
    wire.type("not a name")
    assert asked(wire) == [Question.NAME]
    wire.type("alicia")
    assert wire.conversation.phase is Phase.HERE
    assert wire.conversation.name == "alicia"


def test_a_name_chosen_without_a_connection_brings_the_next_one() -> None:
    wire = Wire(Server(refusals={"JOIN": ["BADNAME no"]}))
    wire.connect()
    wire.carry()
    wire.lose()  # the server has waited long enough
    assert wire.conversation.entrance.connect_at is None
    wire.type("alicia")
    wire.arrive()
    assert wire.conversation.name == "alicia"


def test_our_own_name_may_still_be_in_use_after_a_reconnect() -> None:
    wire = Wire()
    wire.arrive()
    wire.lose()
    wire.server.refusals["JOIN"] = ["INUSE alice is taken"] * 3
    wire.arrive()
    assert wire.conversation.phase is Phase.HERE
    assert asked(wire) == []


def test_a_password_is_asked_for_and_kept_for_reconnects() -> None:
    wire = Wire(Server(password="secret"))
    wire.connect()
    wire.carry()
    assert asked(wire) == [Question.PASSWORD]
    wire.conversation.password_given("wrong", wire.now)
    wire.settle()
    assert asked(wire) == [Question.PASSWORD]
    wire.conversation.password_given("secret", wire.now)
    wire.settle()
    assert wire.conversation.phase is Phase.HERE
    wire.lose()
    wire.arrive()
    assert wire.conversation.phase is Phase.HERE


def test_without_the_password_another_name_is_asked_for() -> None:
    wire = Wire(Server(password="secret"))
    wire.connect()
    wire.carry()
    asked(wire)
    wire.conversation.password_given("", wire.now)
    assert asked(wire) == [Question.NAME]


def test_pass_makes_the_name_ones_own_and_opens_the_history() -> None:
    wire = Wire(Server(has_history=False))
    wire.arrive()
    wire.type("/msg bob", "/hist")
    assert wire.remarks()[-1].startswith("no history")
    wire.type("/pass")
    assert asked(wire) == [Question.NEW_PASSWORD]
    wire.conversation.password_given("correct horse", wire.now)
    wire.settle()
    assert wire.server.password == "correct horse"
    assert wire.conversation.recall.is_offered
    wire.type("/pass secret")
    assert "correct horse" not in str(wire.remarks())
    assert "asked for afterwards" in wire.remarks()[-1]


def test_a_password_cannot_smuggle_a_line() -> None:
    wire = Wire()
    wire.arrive()
    wire.conversation.password_given("a\nCHAT bob hi", wire.now)
    wire.settle()
    assert wire.server.rows == []


def test_a_silent_connection_is_asked_for_a_sign_of_life_and_then_given_up() -> None:
    wire = Wire()
    wire.arrive()
    started = wire.now
    while not wire.conversation.must_hang_up:
        assert wire.now < started + 60
        wire.now += 1
        wire.conversation.tick(wire.now)
    assert b"PING" in wire.conversation.take_output()
    assert 40 <= wire.now - started <= 50


def test_a_connection_that_answers_pings_is_kept() -> None:
    wire = Wire()
    wire.arrive()
    for _ in range(120):
        wire.now += 1
        wire.conversation.tick(wire.now)
        wire.carry()
    assert not wire.conversation.must_hang_up


def test_a_full_server_is_tried_again() -> None:
    wire = Wire()
    wire.connect(b"ERR HELO FULL the server is full\n")
    wire.lose()
    assert "the server is full" in wire.remarks()
    wire.arrive()
    assert wire.conversation.phase is Phase.HERE


def test_leaving_waits_for_receipts() -> None:
    wire = Wire()
    wire.arrive()
    wire.conversation.say("bob", "last words", wire.now)
    wire.conversation.leave(wire.now)
    output = wire.conversation.take_output()
    assert b"LEAV" not in output
    wire.conversation.received(wire.answers(output), wire.now)
    wire.settle()
    assert wire.server.got[-1].endswith("LEAV")
    assert wire.conversation.is_over


def test_leaving_twice_is_at_once_and_says_what_was_not_sent() -> None:
    wire = Wire()
    wire.arrive()
    wire.conversation.say("bob", "last words", wire.now)
    wire.conversation.leave(wire.now)
    wire.conversation.leave(wire.now)
    assert wire.conversation.is_over
    assert last_state(wire) is State.FAILED


def test_leaving_does_not_wait_for_ever() -> None:
    wire = Wire()
    wire.arrive()
    wire.conversation.leave(wire.now)
    wire.conversation.take_output()  # and the server is silent
    wire.now += 10
    wire.conversation.tick(wire.now)
    assert wire.conversation.is_over


def test_without_a_connection_leaving_is_immediate() -> None:
    conversation = Conversation("alice")
    conversation.leave(0.0)
    assert conversation.is_over
    assert conversation.entrance.connect_at is None


def test_a_broken_connection_ends_a_farewell() -> None:
    wire = Wire()
    wire.arrive()
    wire.conversation.leave(wire.now)
    wire.lose()
    assert wire.conversation.is_over


def test_presence_says_who_has_come_and_gone() -> None:
    wire = Wire()
    wire.arrive()
    wire.type("/join #dev")
    wire.conversation.talks.get("#dev").members.clear()
    wire.hear("HERE #dev bob carol", "HERE #dev bob carol", "GONE #dev bob", "GONE #dev bob")
    assert wire.remarks()[-2:] == ["here: bob, carol", "gone: bob"]
    assert [*wire.conversation.talks.get("#dev").members] == ["carol"]
    wire.hear("HERE #dev " + " ".join(f"n{i}" for i in range(12)))
    assert wire.remarks()[-1].endswith("n9 and 2 more")


def test_commands_show_what_they_are_answered() -> None:
    wire = Wire()
    wire.arrive()
    wire.type("/join #dev", "/who", "/rooms", "/raw PING x", "/help")
    remarks = wire.remarks()
    assert "2 here: alice, bob" in remarks
    assert "2 rooms: #dev 2, #ops 1" in remarks
    assert "OK PING x" in remarks
    assert "/quit - leave and end" in remarks
    wire.server.refusals["WHOS"] = ["BUSY later"]
    wire.type("/who")
    assert wire.remarks()[-1] == "later"


def test_find_shows_what_the_server_has_found() -> None:
    wire = Wire()
    wire.server.store("bob", "#dev", "about cats")
    wire.arrive()
    wire.type("/find cats", "/find")
    found = [e for e in wire.conversation.take_events() if isinstance(e, Added)]
    assert "about cats" in [event.entry.text for event in found]
    wire.server.refusals["FIND"] = ["AUTH only for names with a password"]
    wire.type("/find dogs")
    assert "only for names" in wire.remarks()[-1]


def test_hist_pages_back_in_the_current_talk() -> None:
    wire = Wire()
    for number in range(60):
        wire.server.store("bob", "alice", str(number))
    wire.arrive()
    assert wire.texts() == [str(number) for number in range(30, 60)]
    wire.type("/msg bob", "/hist 10")
    assert wire.texts() == [str(number) for number in range(20, 60)]
    wire.type("/hist")
    wire.type("/hist")
    assert wire.texts() == [str(number) for number in range(60)]
    assert wire.remarks()[-1] == "there is nothing older"


def test_without_a_history_hist_says_so_politely() -> None:
    wire = Wire(Server(has_history=False))
    wire.arrive()
    wire.type("/hist", "/msg bob", "/hist")
    wire.type("/hist")
    assert "no history: only for names with a password" in wire.remarks()
    assert wire.remarks()[-1] == "there is nothing older"


@pytest.mark.parametrize("line", ["/who", "/hist", "/find x", "/pass", "/raw STAT"])
def test_without_a_connection_commands_say_so(line: str) -> None:
    wire = Wire()
    wire.prompt.typed(line, wire.now)
    assert wire.remarks()[-1] == "not now: there is no connection"


def test_a_paste_is_said_line_by_line_as_it_is() -> None:
    wire = Wire()
    wire.arrive()
    wire.type("/msg bob")
    wire.prompt.pasted([*(f"/line {n}" for n in range(200)), "", "  indented"], wire.now)
    wire.settle()
    assert wire.texts() == [*(f"/line {n}" for n in range(200)), "  indented"]
    assert [row[2] for row in wire.server.rows] == wire.texts()


def test_a_long_text_becomes_several_messages() -> None:
    wire = Wire()
    wire.arrive()
    wire.type("/msg bob " + "wörd " * 500)
    assert len(wire.server.rows) > 1
    assert " ".join(row[2] for row in wire.server.rows).split() == ["wörd"] * 500
    assert all(len(line.encode()) < 1024 for line in wire.server.got)


def test_strange_lines_are_shown_and_do_no_harm() -> None:
    wire = Wire()
    wire.arrive()
    wire.hear("\x1b[2JWHAT", "ERR * TOOLONG cut it", "OK NOPE", "@99 DATA X y", "", "CHAT", "\r")
    assert "?[2JWHAT" in wire.remarks()
    assert "cut it" in wire.remarks()


def test_the_newest_id_is_asked_for_now_and_then() -> None:
    wire = Wire()
    wire.server.store("bob", "alice", "zero")
    wire.arrive()
    for minute in range(4):
        wire.hear_from_bob(f"in minute {minute}")
        wire.now += 61
        wire.conversation.tick(wire.now)
        wire.settle()
    wire.lose()
    wire.server.got.clear()
    wire.arrive()
    after = [line.rpartition("=")[2] for line in wire.server.got if "after=" in line]
    assert after == ["4"]
    assert wire.texts() == ["zero", *(f"in minute {minute}" for minute in range(4))]


def test_every_change_of_a_message_is_told() -> None:
    wire = Wire()
    wire.arrive()
    wire.conversation.take_events()
    wire.type("/msg bob hi")
    events = wire.conversation.take_events()
    assert [type(event) for event in events] == [Added, Changed]
