"""`kill -9` of the supervisor under a real systemd, which holds what its successor goes on with."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from prefork_chat.inheritance import ATTENDANTS
from prefork_chat.registry.layout import CONSOLES
from tests.systemd.service import CONFIG, PREFIX, run, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.systemd.service import Person, Service

    Connect = Callable[[str], Person]

pytestmark = pytest.mark.systemd

KILLS = 20


def wait_for_successor(service: Service, supervisor: int) -> None:
    wait_until(
        lambda: (
            service.main_pid() not in (0, supervisor) and service.show("ActiveState") == "active"
        ),
        "a new supervisor whose workers are ready",
    )


def kill_supervisor(service: Service) -> None:
    """Kill it as soon as it is ready; return when its successor is."""
    wait_until(lambda: service.show("ActiveState") == "active", "the service is active")
    supervisor = service.main_pid()
    os.kill(supervisor, signal.SIGKILL)
    wait_for_successor(service, supervisor)


def talk(sender: Person, receiver: Person, text: str) -> None:
    """Send one message; both must hear of it once, and of nothing else before."""
    sender.say(f"CHAT {receiver.name} {text}")
    sender.hear(f"OK CHAT {receiver.name}")
    assert receiver.hear("CHAT ") == f"CHAT {sender.name} {text}"


def wait_until_stored(service: Service, clients: int) -> None:
    """Wait until systemd holds so many clients besides what it holds of an empty daemon."""
    wait_until(lambda: stored(service) >= clients, f"{clients} clients are stored")


def stored(service: Service) -> int:
    """Return how many clients systemd holds: what is stored beyond the daemon's own."""
    return int(service.show("NFileDescriptorStore")) - own_descriptors()


def own_descriptors() -> int:
    """Return how many descriptors a daemon of the default shape has stored, its deed included."""
    places, threads = 8, 2
    loops = places * threads
    pairs = places + loops + len(ATTENDANTS) + CONSOLES + len(("keeper",)) + places
    notebooks = len(ATTENDANTS)
    own = ("registry", "listener", "deed", "attendants")
    return 2 * pairs + loops + notebooks + len(own)


def test_clients_talk_on_when_the_supervisor_is_killed(service: Service, connect: Connect) -> None:
    cursor = service.cursor()
    people = [connect(f"person{number}") for number in range(6)]
    wait_until_stored(service, len(people))
    kill_supervisor(service)
    for sender in people:
        for receiver in people:
            if sender is not receiver:
                talk(sender, receiver, "still here")
    new = connect("new")
    talk(new, people[0], "hello")
    assert service.show("NRestarts") == "1"
    text = run("journalctl", "--unit=prefork-chat", f"--after-cursor={cursor}", "--output=cat")
    assert '"supervisor.resumed"' in text


def test_nothing_is_lost_or_doubled_over_many_kills(service: Service, connect: Connect) -> None:
    """What is said while there is nobody to hear it waits, and comes once, in order."""
    ann, bob = connect("ann"), connect("bob")
    wait_until_stored(service, 2)
    for number in range(KILLS):
        wait_until(lambda: service.show("ActiveState") == "active", "the service is active")
        supervisor = service.main_pid()
        before, after = f"before {number}", f"after {number}"
        ann.say(f"CHAT bob {before}")
        os.kill(supervisor, signal.SIGKILL)
        bob.say(f"CHAT ann {after}")
        wait_for_successor(service, supervisor)
        assert {ann.hear(""), ann.hear("")} == {"OK CHAT bob", f"CHAT bob {after}"}
        assert {bob.hear(""), bob.hear("")} == {"OK CHAT ann", f"CHAT ann {before}"}
    assert service.show("NRestarts") == str(KILLS)


def test_half_a_line_waits_for_its_other_half(service: Service, connect: Connect) -> None:
    ann, bob = connect("ann"), connect("bob")
    wait_until_stored(service, 2)
    ann.type("CHAT bob half a li")
    talk(bob, ann, "he is typing")  # so that the half has been read, or will be after the kill
    kill_supervisor(service)
    ann.say("ne")
    ann.hear("OK CHAT bob")
    assert bob.hear("CHAT ") == "CHAT ann half a line"


def test_whoever_leaves_is_not_held(service: Service, connect: Connect) -> None:
    ann, bob = connect("ann"), connect("bob")
    wait_until_stored(service, 2)
    ann.say("LEAV")
    ann.hear("OK LEAV")
    assert ann.hears_the_end()
    wait_until(lambda: stored(service) == 1, "one client is stored")
    kill_supervisor(service)
    talk(connect("ann"), bob, "back again")


def test_a_stop_in_order_leaves_nothing_to_go_on_with(service: Service, connect: Connect) -> None:
    ann = connect("ann")
    wait_until_stored(service, 1)
    cursor = service.cursor()
    run("systemctl", "restart", "prefork-chat.service")
    ann.hear("NOTE server is going down")
    assert ann.hears_the_end()
    connect("ann")
    text = run("journalctl", "--unit=prefork-chat", f"--after-cursor={cursor}", "--output=cat")
    assert '"supervisor.resumed"' not in text


def test_an_upgraded_daemon_survives_its_supervisor_too(service: Service, connect: Connect) -> None:
    ann = connect("ann")
    wait_until_stored(service, 1)
    run(PREFIX / "bin" / "prefork-chat", "ctl", "--runtime-dir", "/run/prefork-chat", "upgrade")
    bob = connect("bob")
    wait_until_stored(service, 2)
    kill_supervisor(service)
    talk(ann, bob, "still here")


def test_clients_beyond_the_bound_end_with_the_supervisor(
    service: Service, connect: Connect
) -> None:
    right = CONFIG.read_text()
    CONFIG.write_text(
        right.replace("#fd_store_max = 2000", f"fd_store_max = {own_descriptors() + 1}")
    )
    try:
        ann = connect("ann")
        wait_until_stored(service, 1)
        bob = connect("bob")
        talk(ann, bob, "you are too many")
        kill_supervisor(service)
        assert bob.hears_the_end()
        ann.say("CHAT bob hello")
        ann.hear("ERR CHAT NOUSER bob")
    finally:
        run("systemctl", "stop", "prefork-chat.service")
        CONFIG.write_text(right)


def test_without_a_store_the_daemon_starts_afresh(service: Service, connect: Connect) -> None:
    settings = ("FileDescriptorStoreMax=0", "Environment=FDSTORE=0")
    with service.changed(*settings):
        ann = connect("ann")
        assert service.show("NFileDescriptorStore") == "0"
        kill_supervisor(service)
        assert ann.hears_the_end()
        connect("ann")


def test_a_changed_shape_of_what_is_stored_is_refused(service: Service, connect: Connect) -> None:
    """The runtime directory, where slow readers' lines are, is gone: not the same daemon."""
    ann = connect("ann")
    wait_until_stored(service, 1)
    cursor = service.cursor()
    supervisor = service.main_pid()
    subprocess.run(["rm", "-rf", "/run/prefork-chat/spill"], check=True)
    os.kill(supervisor, signal.SIGKILL)
    wait_for_successor(service, supervisor)
    assert ann.hears_the_end()
    bob = connect("ann")
    wait_until_stored(service, 1)
    text = run("journalctl", "--unit=prefork-chat", f"--after-cursor={cursor}", "--output=cat")
    assert '"store.rejected"' in text
    kill_supervisor(service)
    bob.say("CHAT ann myself")
    assert bob.hear("")
