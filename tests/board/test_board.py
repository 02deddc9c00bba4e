"""The board as written, read, and described to C."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from prefork_chat.board import layout
from prefork_chat.board.board import Board, key_of
from prefork_chat.board.layout import Content, Figures, Row, Text, cut
from prefork_chat.channels.errors import ChannelError, NoServer, NotPermitted
from prefork_chat.channels.sysv import SysvMemory, remove_sysv
from prefork_chat.cli.main import main
from tests.harness.compiler import compile_c
from tests.registry.processes import child

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTENT = Content(
    figures=Figures(
        updated_ns=1,
        supervisor_pid=2,
        workers=2,
        clients=4,
        names=5,
        rooms=6,
        accepted=7,
        lines=8,
        delivered=9,
        refused=10,
    ),
    notice=Text("Café closes at 5 ☕", 11),
    broadcast=Text("hello", 12),
    workers=(
        Row(state=2, pid=3, generation=4, heartbeat_ns=5, clients=6, lines=7, delivered=8),
        Row(state=0, generation=9),
    ),
)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    memory = SysvMemory.create(key_of(tmp_path), layout.SIZE_BYTES)
    yield tmp_path
    memory.close()
    remove_sysv("memory", key_of(tmp_path), None)


@pytest.fixture
def writer(directory: Path) -> Iterator[Board]:
    board, before = Board.open_to_write(key_of(directory), os.getpid())
    assert before is None, "nobody has written yet"
    with board:
        board.write(CONTENT)
        yield board


def test_what_was_written_is_read(writer: Board, directory: Path) -> None:
    with Board.open_to_read(directory) as board:
        assert board.read() == CONTENT
        other = replace(CONTENT, notice=Text(), workers=(), figures=Figures(clients=1))
        writer.write(other)
        assert board.read() == other


def test_a_worker_without_a_heartbeat_is_shown_without_one(
    writer: Board, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert writer.read() == CONTENT
    assert main(["board", "--runtime-dir", str(directory)]) == 0
    first, second = capsys.readouterr().out.splitlines()[-2:]
    assert first.startswith("worker 0   ready, pid 3, generation 4, 6 clients, heartbeat ")
    assert second == "worker 1   gone, generation 9"


def test_a_writer_goes_on_where_the_last_one_was_killed(writer: Board, directory: Path) -> None:
    with memoryview(writer._words) as words, Board.open_to_read(directory) as board:
        words[layout.SEQUENCE_WORD] += 1  # killed in the middle
        successor, before = Board.open_to_write(key_of(directory), os.getpid())
        assert before == CONTENT
        with successor:
            successor.write(CONTENT)
        assert board.read() == CONTENT
        assert words[layout.SEQUENCE_WORD] % 2 == 0


def test_a_reader_does_not_wait_for_ever(
    writer: Board, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefork_chat.board.board._ATTEMPTS", 3)
    with memoryview(writer._words) as words, Board.open_to_read(directory) as board:
        words[layout.SEQUENCE_WORD] += 1
        with pytest.raises(ChannelError, match="its writer was killed"):
            board.read()


def test_nobody_reads_half_of_a_change(directory: Path) -> None:
    """A writer in another process changes all figures at once, as often as it can."""

    def write_for_ever() -> None:
        writer, _ = Board.open_to_write(key_of(directory), os.getppid())
        number = 0
        while True:
            number += 1
            figures = Figures(**dict.fromkeys(Figures.__struct_fields__, number % 60))
            writer.write(
                replace(CONTENT, figures=figures, workers=(Row(pid=number % 60),) * (number % 60))
            )

    with child(write_for_ever), ExitStack() as undo:
        deadline = time.monotonic() + 20
        board: Board | None = None
        while board is None:
            assert time.monotonic() < deadline
            try:
                board = undo.enter_context(Board.open_to_read(directory))
            except ChannelError:
                continue  # it has not begun
        seen: set[int] = set()
        while len(seen) < 20:  # it changes
            assert time.monotonic() < deadline
            content = board.read()
            (number,) = {getattr(content.figures, name) for name in Figures.__struct_fields__}
            assert {row.pid for row in content.workers} <= {number}
            assert len(content.workers) == number
            seen.add(number)


def test_other_memory_and_other_versions_are_refused(writer: Board, directory: Path) -> None:
    with pytest.raises(NoServer, match=r"no daemon that has a board runs in /$"):
        Board.open_to_read(Path("/"))
    with pytest.raises(NoServer, match="no daemon runs in"):
        Board.open_to_read(directory / "nowhere")
    writer._memory.view[8:12] = (layout.VERSION + 1).to_bytes(4, "little")
    with pytest.raises(ChannelError, match=r"has version 2, not ours"):
        Board.open_to_read(directory)
    writer._memory.view[:4] = b"xxxx"
    with pytest.raises(ChannelError, match="is not a board"):
        Board.open_to_read(directory)


def test_a_reader_without_permission_is_told_so(writer: Board, directory: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    key = key_of(directory)  # the test's directories are not for others
    os.seteuid(65534)
    try:
        with pytest.raises(NotPermitted, match="another user"):
            SysvMemory.open_to_read(key)
        with pytest.raises(NotPermitted, match="Permission denied"):
            key_of(directory)
        os.seteuid(0)
        writer._memory.permit(0o644, -1, -1)
        os.seteuid(65534)
        with Board(SysvMemory.open_to_read(key)) as board:
            assert board.read() == CONTENT
    finally:
        os.seteuid(0)


def test_a_c_program_reads_it(writer: Board, directory: Path, tmp_path: Path) -> None:
    program = compile_c(Path(__file__).with_name("reader.c"), tmp_path)
    done = subprocess.run([program, directory], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"pfcboard {layout.VERSION} {layout.SIZE_BYTES}",
        "clients 4 names 5 workers 2",
        "notice Café closes at 5 ☕",
        "broadcast hello",
        "worker 0 state 2 generation 4 heartbeat 5",
        "worker 1 state 0 generation 9 heartbeat 0",
    ]
    done = subprocess.run([program, tmp_path / "no"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")


def test_the_header_puts_every_field_where_we_do(tmp_path: Path) -> None:
    fields = ["version", "sequence", *Figures.__struct_fields__, "notice_ns", "broadcast_ns"]
    fields += ["notice", "broadcast", "worker"]
    rows = list(Row.__struct_fields__)
    source = tmp_path / "offsets.c"
    source.write_text(
        '#include <stdio.h>\n#include <stddef.h>\n#include "board.h"\nint main(void)\n{\n'
        + "".join(
            f'    printf("%zu\\n", offsetof(struct prefork_chat_board, {field}));\n'
            for field in fields
        )
        + "".join(
            f'    printf("%zu\\n", offsetof(struct prefork_chat_worker, {field}));\n'
            for field in rows
        )
        + '    printf("%zu %zu", sizeof(struct prefork_chat_worker),'
        " sizeof(struct prefork_chat_board));\n    return 0;\n}\n"
    )
    program = compile_c(source, tmp_path)
    said = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()
    told = [int(word) for word in said]
    figures = [layout.FIGURES_OFFSET + 8 * place for place in range(10)]
    texts = layout.TEXTS_OFFSET
    assert told == [
        *(8, 8 * layout.SEQUENCE_WORD, *figures, texts, texts + 8, texts + 16),
        *(texts + 16 + layout.NOTICE_BYTES, layout.WORKERS_OFFSET),
        *(0, 4, 8, 16, 24, 32, 40),
        *(layout.WORKER.size, layout.SIZE_BYTES),
    ]


def test_a_text_is_cut_between_characters_and_cannot_harm_a_terminal() -> None:
    assert cut("ab☕", 6) == "ab☕".encode()
    assert cut("ab☕", 5) == b"ab"
    assert cut("a\x1b[2J\nb", 99) == b"a?[2J?b"
    assert cut("x" * 9, 4) == b"xxx"


def test_a_child_that_reads_and_is_killed_leaves_it_as_it_is(
    writer: Board, directory: Path
) -> None:
    def read_for_ever() -> None:
        with Board.open_to_read(directory) as board:
            while True:
                board.read()

    with child(read_for_ever) as pid:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    with Board.open_to_read(directory) as board:
        assert board.read() == CONTENT
