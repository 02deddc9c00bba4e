"""Who is at the other end of a connection, as far as the kernel knows.

Pure questions to a socket, about 1 µs each, asked by the loop that has the client when it matters:
when a password comes. A TCP client is known by its address, of which an IPv6 host has very many:
those of one network count as one. A client on a Unix socket is a process of this machine, and the
kernel tells whose (unix(7), SO_PEERCRED).
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

NO_UID: Final = -1

_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid (unix(7), struct ucred)
_OVERFLOW_UID: Final = 65534
"""Stands for every user that is none of ours: of other user namespaces (user_namespaces(7))."""
_NETWORK_BYTES: Final = 8  # of an IPv6 address: a site gets a /64, or more (RFC 6177)


class Peer(NamedTuple):
    """A client's other end.

    `origin`: those of the same origin are taken for the same person. `is_private`: nobody can
    listen on the way. `uid`: the local user's, NO_UID if it is none.
    """

    origin: bytes
    is_private: bool
    uid: int


def peer_of(client: socket.SocketType) -> Peer:
    """Say who is at the other end; of a client that is gone already, nobody in particular."""
    try:
        if client.family == socket.AF_UNIX:
            return _local_peer(client)
        return _remote_peer(_address(client))
    except OSError:
        return Peer(b"", is_private=False, uid=NO_UID)


def _local_peer(client: socket.SocketType) -> Peer:
    credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid = _CREDENTIALS.unpack(credentials)[1]
    is_ours = uid != _OVERFLOW_UID
    return Peer(b"uid %d" % uid, is_private=True, uid=uid if is_ours else NO_UID)


def _address(client: socket.SocketType) -> IPv4Address | IPv6Address:
    """Return the address of a TCP client, whatever family the socket object is said to be of.

    That of an adopted client is the wrong one for IPv6, and cuts addresses short.
    """
    probe = socket.SocketType(fileno=client.fileno())
    try:
        return ip_address(probe.getpeername()[0].partition("%")[0])
    finally:
        probe.detach()


def _remote_peer(address: IPv4Address | IPv6Address) -> Peer:
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    network = address.packed[:_NETWORK_BYTES]
    return Peer(network, is_private=address.is_loopback, uid=NO_UID)
