"""A worker fewer: members move to other workers, and are in their rooms as before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.daemon.test_leaving import come_back, leave, start_sturdy
from tests.daemon.test_rooms import enter, whos
from tests.daemon.test_rooms_killed import talk_in_turns

if TYPE_CHECKING:
    from tests.harness.daemon import StartDaemon


def test_members_who_move_are_members_still(start_daemon: StartDaemon) -> None:
    daemon = start_sturdy(start_daemon)
    people = {f"p{n}": daemon.join(f"p{n}", n % 3) for n in range(6)}
    enter("#dev", *people.values())
    enter("#movers", people["p2"], people["p5"])
    for _ in range(3):
        leave(daemon)
        talk_in_turns("#dev", people)
        assert whos(people["p0"], "#dev") == set(people)
        assert whos(people["p0"], "#movers") == {"p2", "p5"}
        talk_in_turns("#movers", {name: people[name] for name in ("p2", "p5")})
        come_back(daemon)
        talk_in_turns("#dev", people)


def test_a_room_goes_on_whose_members_have_all_moved(start_daemon: StartDaemon) -> None:
    """Its place is not had by another in the moment in between."""
    daemon = start_sturdy(start_daemon, limits_max_rooms=2)
    movers = {f"mover{n}": daemon.join(f"mover{n}", 2) for n in range(8)}
    enter("#movers", *movers.values())
    stayer = daemon.join("stayer", 0)
    leave(daemon)
    enter("#other", stayer)
    stayer.send("ENTR #more")
    stayer.expect_error("ENTR", "FULL", "#more")
    talk_in_turns("#movers", movers)
    stayer.expect_nothing()
