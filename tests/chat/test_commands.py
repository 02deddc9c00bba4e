"""What each line asks for, and what a person who wrote it wrongly is told."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefork_chat.chat import outcomes
from prefork_chat.chat.commands import COMMANDS, execute
from prefork_chat.chat.effects import (
    Authenticate,
    Claim,
    Close,
    Effect,
    EnterRoom,
    ExitRoom,
    Leave,
    ListMembers,
    ListNames,
    ListRooms,
    Refuse,
    Reply,
    Report,
    Route,
    SetPassword,
    TellRoom,
)
from prefork_chat.chat.session import Session
from prefork_chat.protocol.decoder import HTTP, NOT_UTF8, TLS, TOO_LONG, UNENDED
from prefork_chat.protocol.names import is_name, is_room, is_tag
from prefork_chat.protocol.replies import Code
from tests.chat.lines import answer, cleaned, lines

# How fast a machine is that runs many things at once decides nothing here.
unhurried = settings(deadline=None)


def joined_session() -> Session:
    return Session(name=b"Alice", key=b"alice")


def refusal(line: bytes, session: Session | None = None) -> bytes:
    """Return the `ERR` that a joined client gets for `line`."""
    effect = execute(session or joined_session(), line)
    assert isinstance(effect, Refuse)
    return effect.line


def reply(line: bytes, session: Session | None = None) -> tuple[bytes, ...]:
    """Return the lines that a joined client gets at once for `line`."""
    effect = execute(session or joined_session(), line)
    assert isinstance(effect, Reply)
    return effect.lines


# Spelling


@pytest.mark.parametrize("line", [b"CHAT bob hi", b"chat bob hi", b"Chat bob hi", b"  CHAT bob hi"])
def test_verbs_are_the_same_in_any_case_and_behind_spaces(line: bytes) -> None:
    assert execute(joined_session(), line) == Route(b"", b"bob", b"hi")


@pytest.mark.parametrize("line", [b"@7 CHAT bob hi", b"@7  chat bob hi", b" @7 cHaT bob hi"])
def test_a_tag_stands_before_the_verb(line: bytes) -> None:
    assert execute(joined_session(), line) == Route(b"7", b"bob", b"hi")


@pytest.mark.parametrize("tag", [b"@", b"@!!", b"@@7", b"@" + b"x" * 33, b"@\xc3\xa4", b"@7\t"])
def test_a_bad_tag_is_refused_without_a_tag(tag: bytes) -> None:
    assert refusal(tag + b" CHAT bob hi").startswith(b"ERR * BADARGS @")


def test_a_tag_alone_or_a_blank_line_is_no_command() -> None:
    assert refusal(b"@7").startswith(b"@7 ERR * BADVERB a line begins with a command")
    assert refusal(b"   ").startswith(b"ERR * BADVERB a line begins with a command")


@pytest.mark.parametrize("line", [b"hello there", b"SING #room", b"HISTORY", b"CHAT\tbob hi"])
def test_an_unknown_verb_is_shown_the_way_to_help(line: bytes) -> None:
    verb = line.split(b" ")[0]
    assert refusal(line).startswith(b"ERR * BADVERB " + verb + b" is no command: HELP lists them")


# JOIN


@pytest.mark.parametrize("line", [b"JOIN Bob", b"join Bob", b"JOIN  Bob ", b"JOIN \tBob\t"])
def test_join_claims_the_name_as_typed_under_its_folded_key(line: bytes) -> None:
    session = Session()
    assert execute(session, line) == Claim(b"Bob", b"bob", b"")
    assert session.name == b""


def test_a_session_that_has_joined_cannot_join_again() -> None:
    assert refusal(b"@1 JOIN Bob") == (
        b"@1 ERR JOIN JOINED you are Alice already: to change your name, LEAV and connect again"
    )


def test_join_says_what_is_wrong_with_a_name() -> None:
    assert refusal(b"JOIN", Session()).startswith(b"ERR JOIN BADARGS a name is missing: JOIN <")
    assert refusal(b"JOIN b@b", Session()).startswith(b"ERR JOIN BADNAME b@b is no name: use 1-32")
    assert b"BADNAME " + b"x" * 33 + b" is" in refusal(b"JOIN " + b"x" * 33, Session())


def test_a_join_with_a_password_asks_whose_name_it_is() -> None:
    asked = Authenticate(b"Bob", b"bob", b"a  secret", b"7")
    assert execute(Session(), b"@7 JOIN  Bob   a  secret ") == asked


def test_pass_asks_for_the_account_of_the_session_s_name() -> None:
    session = joined_session()
    assert execute(session, b"PASS  a secret ") == SetPassword(
        b"Alice", b"alice", is_owner=False, password=b"a secret", tag=b""
    )
    assert outcomes.enrolled(session, b"7") == b"@7 OK PASS"
    asked = execute(session, b"pass another")
    assert isinstance(asked, SetPassword)
    assert asked.is_owner


def test_pass_needs_a_name_and_a_password() -> None:
    assert refusal(b"PASS secret", Session()).startswith(b"ERR PASS NOJOIN ")
    assert refusal(b"PASS ").startswith(b"ERR PASS BADARGS a password is missing: PASS <")


@pytest.mark.parametrize(
    "line", [b"JOIN bob s3cret", b"JOIN b@b s3cret", b"PASS s3cret", b"PSS s3cret"]
)
def test_a_password_is_never_shown(line: bytes) -> None:
    for session in (Session(), joined_session()):
        effect = execute(session, line)
        assert "s3cret" not in repr(effect)
        assert b"s3cret" not in b"".join(answer(session, effect))


# CHAT


def test_everything_behind_the_single_space_is_the_message() -> None:
    assert execute(joined_session(), b"chat bob  hi \t there ") == (
        Route(b"", b"bob", b" hi \t there ")
    )
    assert execute(joined_session(), b"chat bob  ") == Route(b"", b"bob", b" ")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"CHAT", b"BADARGS a name and a message are missing: CHAT <"),
        (b"CHAT ", b"BADARGS a name and a message are missing: CHAT <"),
        (b"CHAT bob", b"BADARGS bob gets no message: CHAT <"),
        (b"CHAT bob ", b"BADARGS bob gets no message: CHAT <"),
        (b"CHAT  bob hi", b"BADARGS one space goes between CHAT and the name: CHAT <"),
        (b"CHAT b@b hi", b"BADNAME b@b is no name: use 1-32"),
        (b"CHAT #r@om hi", b"BADNAME #r@om is no room: a room is # and a name, use 1-32"),
    ],
)
def test_chat_says_what_is_missing_or_wrong(line: bytes, code: bytes) -> None:
    assert refusal(b"@7 " + line).startswith(b"@7 ERR CHAT " + code)


def test_chat_needs_a_join_first_and_says_whom_it_did_not_reach() -> None:
    assert refusal(b"CHAT bob hi", Session()).startswith(b"ERR CHAT NOJOIN bob ")
    assert refusal(b"CHAT", Session()) == b"ERR CHAT NOJOIN say who you are first: JOIN <username>"


@unhurried
@given(lines, st.sampled_from([b"CHAT", b"chat", b"@t CHAT", b"@t  chat", b" Chat"]))
def test_a_chat_is_the_same_in_every_spelling(raw: bytes, spelling: bytes) -> None:
    """The loop takes the plain spelling without asking; execute() must agree about all others."""
    for line in cleaned(b"CHAT " + raw):
        _, _, rest = line.partition(b" ")
        dest, _, message = rest.partition(b" ")
        tag = b"t" if b"@" in spelling else b""
        effect = execute(joined_session(), spelling + b" " + rest)
        if message and is_name(dest):
            assert effect == Route(tag, dest, message)
        elif message and is_room(dest):
            assert effect == TellRoom(tag, dest, message)
        elif message:
            assert effect == Refuse(outcomes.unknown_destination(dest, tag))
        else:
            assert isinstance(effect, Refuse)
            assert b"ERR CHAT BADARGS " in effect.line


# The others


@pytest.mark.parametrize(
    ("line", "effect"),
    [
        (b"LEAV", Leave(b"")),
        (b"@7 quit ", Leave(b"7")),
        (b"WHOS", ListNames(b"")),
        (b"@7 whos", ListNames(b"7")),
        (b"WHOS #Dev", ListMembers(b"#Dev", b"")),
        (b"room", ListRooms(b"")),
        (b"@7 ROOM ", ListRooms(b"7")),
        (b"STAT", Report(b"")),
        (b"@7 stat", Report(b"7")),
    ],
)
def test_some_commands_are_the_workers_to_answer(line: bytes, effect: Effect) -> None:
    assert execute(joined_session(), line) == effect
    assert execute(Session(), line) == effect


@pytest.mark.parametrize("verb", [b"LEAV", b"STAT", b"ROOM"])
def test_commands_without_arguments_refuse_them(verb: bytes) -> None:
    assert refusal(verb + b" x").startswith(b"ERR " + verb + b" BADARGS it takes no arguments: ")


def test_whos_takes_a_room_or_nothing() -> None:
    assert refusal(b"WHOS #").startswith(b"ERR WHOS BADNAME # is no room: ")
    for arguments in (b"me", b"#a #b"):
        assert refusal(b"WHOS " + arguments).startswith(b"ERR WHOS BADARGS it takes one room, or ")


@pytest.mark.parametrize(
    ("line", "effect"),
    [
        (b"ENTR #Dev", EnterRoom(b"#Dev", b"")),
        (b"@7 entr  #0.a-b_c ", EnterRoom(b"#0.a-b_c", b"7")),
        (b"EXIT #dev", ExitRoom(b"#dev", b"")),
        (b"@7 chat #dev  hi", TellRoom(b"7", b"#dev", b" hi")),
    ],
)
def test_rooms_are_for_those_who_have_joined(line: bytes, effect: Effect) -> None:
    assert execute(joined_session(), line) == effect
    refused = execute(Session(), line)
    assert isinstance(refused, Refuse)
    assert b" NOJOIN " in refused.line


@pytest.mark.parametrize("verb", [b"ENTR", b"EXIT"])
def test_one_room_is_entered_or_left_at_a_time(verb: bytes) -> None:
    start = b"ERR " + verb
    assert refusal(verb) == start + b" BADARGS a room is missing: " + verb + b" #room"
    assert refusal(verb + b" #a #b").startswith(start + b" BADARGS one room at a time: ")
    for word in (b"dev", b"#", b"##a", b"#.a", b"#" + b"x" * 33):
        line = refusal(verb + b" " + word)
        assert line.startswith(start + b" BADNAME " + word[:33])
        assert b" is no room: a room is # and a name, use 1-32 of " in line


def test_ping_sends_its_token_back() -> None:
    assert reply(b"@7 PING x.1") == (b"@7 OK PING x.1",)
    assert reply(b"PING", Session()) == (b"OK PING",)
    assert refusal(b"PING a b").startswith(b"ERR PING BADARGS a token is one word: PING [token]")


def test_helo_switches_on_what_there_is_and_lists_what_is_on() -> None:
    session = joined_session()
    assert reply(b"HELO", session) == (b"OK HELO",)
    assert reply(b"HELO time ids", session) == (b"OK HELO",)
    assert reply(b"@1 HELO time QUIET", session) == (b"@1 OK HELO quiet",)
    assert session.quiet
    assert reply(b"HELO pres", session) == (b"OK HELO quiet pres",)
    assert session.presence
    assert reply(b"HELO", session) == (b"OK HELO quiet pres",)


def test_helo_changes_nothing_when_a_word_is_unknown() -> None:
    session = Session()
    assert refusal(b"HELO quiet loud", session).startswith(b"ERR HELO BADARGS loud is no extra: ")
    assert not session.quiet


def test_help_lists_every_command() -> None:
    *listed, end = reply(b"HELP", Session())
    assert end == b"OK HELP"
    assert [line.split(b" ")[2] for line in listed] == list(COMMANDS)
    assert all(line.startswith(b"DATA HELP ") and b" - " in line for line in listed)


@pytest.mark.parametrize("verb", COMMANDS)
def test_help_explains_each_command(verb: bytes) -> None:
    usage, *explanation, end = reply(b"@7 HELP " + verb.lower())
    assert usage.startswith(b"@7 DATA HELP " + verb)
    assert explanation
    assert end == b"@7 OK HELP"


def test_help_knows_no_other_command() -> None:
    assert refusal(b"HELP me").startswith(b"ERR HELP BADVERB me is no command: ")
    assert refusal(b"HELP JOIN CHAT").startswith(b"ERR HELP BADARGS ")


# Lines that the decoder refused


@pytest.mark.parametrize("fault", [TOO_LONG, NOT_UTF8])
def test_a_rejected_line_is_refused_in_the_words_of_its_fault(fault: bytes) -> None:
    assert execute(Session(), fault) == Refuse(b"ERR * " + fault)


@pytest.mark.parametrize("fault", [UNENDED, TLS, HTTP])
def test_a_fatal_fault_closes_the_connection(fault: bytes) -> None:
    assert execute(joined_session(), fault) == Close(b"ERR * " + fault)


# Anything at all


@unhurried
@given(st.lists(st.one_of(lines, st.binary(max_size=40).map(lambda raw: raw + b"\n"))))
def test_every_line_gets_exactly_one_ok_or_err_and_it_comes_last(raw: list[bytes]) -> None:
    session = Session()
    for line in cleaned(*raw):
        tag, kinds = kinds_of_answer(session, line)
        assert kinds[-1] in (b"OK", b"ERR")
        assert set(kinds[:-1]) <= {b"DATA"}
        assert tag in (b"", first_word(line))


def kinds_of_answer(session: Session, line: bytes) -> tuple[bytes, list[bytes]]:
    """Return the tag (with its `@`) and the first words of all lines of the answer to `line`."""
    kinds, tags = [], set()
    for text in answer(session, execute(session, line)):
        assert len(text) < 1024
        assert cleaned(text + b"\n") == [text]
        tag, _, rest = text.partition(b" ") if text.startswith(b"@") else (b"", b"", text)
        kind, verb, *_ = rest.split(b" ")
        assert verb in COMMANDS or (kind, verb) == (b"ERR", b"*")
        if kind == b"ERR":
            assert rest.split(b" ")[2] in set(Code)
            assert b": " in rest
        kinds.append(kind)
        tags.add(tag)
    assert len(tags) == 1
    return tags.pop(), kinds


def first_word(line: bytes) -> bytes:
    word = line.lstrip(b" ").partition(b" ")[0]
    return word if is_tag(word[1:]) else b""


def test_an_idle_session_is_small() -> None:
    assert sys.getsizeof(Session()) <= 100
    assert Session().name is Session().key
