"""Ports on 127.0.0.1: a free one, or a clear word about who holds the one that was asked for."""

from __future__ import annotations

import errno
import socket

import psutil

from store.errors import UserError


def free_port() -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def holder(port: int) -> str:
    """`` (python3, pid 4711)`` for the process listening on ``port``, or "" where this user may not see it."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return ""


def require_free(port: int) -> int:
    """``port`` if it can be bound on 127.0.0.1. Raises UserError naming the port and, where readable, its holder."""
    if not 1 <= port <= 65535:
        raise UserError(f"port {port} is not between 1 and 65535; choose another with PORT= (--port)")
    with socket.socket() as probe:
        # servers set this too: a socket in TIME_WAIT is no obstacle
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno == errno.EACCES:
                raise UserError(f"port {port} needs root; choose one above 1023 with PORT= (--port)") from None
            raise UserError(
                f"port {port} is already in use{holder(port)}; stop that server or choose another with PORT= (--port)"
            ) from None
    return port
