"""
Strict mode: inside it, code that reaches outside of the process is stopped, and the line that did it is named.

Code that is run again to be compared with its record must not act again. One audit hook for the process sees what Python
itself does on behalf of code: sockets, processes, files. It is installed when strict mode is first entered, since it cannot be
taken away again, and looks on only at what runs inside. An extension module that calls the system on its own is not seen.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from types import FrameType
from typing import Any, Final
from weakref import WeakKeyDictionary

from .errors import SideEffect

__all__ = ["Watch", "place_in_user_code", "strict", "unwatched"]


class Watch:
    """
    What was seen inside one `strict` block.

    Attributes:
        offences: Every attempt, oldest first: also those whose error the code swallowed.
    """

    def __init__(self, doing: str, advice: str, *, reading: bool) -> None:
        self._doing, self._advice = doing, advice
        self.reading: bool = reading
        self.active: bool = True
        self.offences: list[SideEffect] = []

    def stop(self, act: str, event: str, frame: FrameType | None) -> SideEffect:
        """Put an attempt on the list; the error to raise there."""
        place = place_in_user_code(frame)
        made = SideEffect(
            f"{place} tries to {act} ({event}) in {self._doing}. {self._advice}", act=act, place=place, event=event
        )
        self.offences.append(made)
        return made


@contextmanager
def strict(
    doing: str = "strict mode",
    advice: str = "Put it into a task: its outcome is on record and answers the replay.",
    *,
    reading: bool = True,
) -> Iterator[Watch]:
    """
    Let the code inside open no socket, start no process, and write, rename or remove no file; each attempt raises SideEffect.

    It holds for this context and for the threads that are started in it, not for others. Imports may write their ``.pyc``.

    Args:
        doing: What goes on, for the message: ``"a replay"``.
        advice: What to do about it, for the message.
        reading: Whether files may be read. Modules and time zones may be in any case.

    Yields:
        The watch: its ``offences`` are there also when the code swallowed the errors.
    """
    _install()
    watch = Watch(doing, advice, reading=reading)
    token = _watching.set(watch)
    try:
        yield watch
    finally:
        watch.active = False  # for the threads and contexts that outlive the block
        _watching.reset(token)


@contextmanager
def unwatched() -> Iterator[None]:
    """What the library does of its own accord, on the way of code that is watched: reading a recorded value from its file."""
    token = _watching.set(None)
    try:
        yield
    finally:
        _watching.reset(token)


_watching: Final[ContextVar[Watch | None]] = ContextVar("pluperfect_strict", default=None)
_threads: Final[WeakKeyDictionary[threading.Thread, Watch]] = WeakKeyDictionary()
_installing: Final = threading.Lock()


@cache
def _hooked() -> list[bool]:
    return []


def _install() -> None:
    with _installing:
        if not _hooked():
            sys.addaudithook(_audit)
            if sys.version_info < (3, 12):
                _announce_threads()
            _hooked().append(True)


def _announce_threads() -> None:
    """Python 3.11 raises no event when a thread is started: make it one."""
    module: Any = threading
    start = module._start_new_thread

    def announced(function: Any, *given: Any) -> Any:
        _audit("_thread.start_new_thread", (function, *given))
        return start(function, *given)

    module._start_new_thread = announced


def _audit(event: str, args: tuple[Any, ...]) -> None:
    # Called for everything that the process does, for the rest of its life: whoever is not watched goes on at once.
    judge = _JUDGES.get(event)
    if judge is None:
        return
    watch = _watching.get()
    if watch is None:
        if not _threads:
            return
        watch = _threads.get(threading.current_thread())
        if watch is None:
            return
    if not watch.active:
        return
    act = judge(watch, args)
    if act is not None:
        frame = sys._getframe(1)
        if not _at_import(frame):
            raise watch.stop(act, event, frame)


# --- what is an offence ---------------------------------------------------------------------------------

_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_NOWHERE: Final = frozenset({os.devnull, "/dev/tty"})


def _text(path: Any) -> str:
    try:
        return os.fsdecode(path)
    except TypeError:
        return repr(path)


def _open(watch: Watch, args: tuple[Any, ...]) -> str | None:
    path, _, flags = args
    name = _text(path)
    if isinstance(flags, int) and flags & _WRITING:
        return None if name in _NOWHERE or _bytecode(name) else f"write the file {name!r}"
    return None if watch.reading or f"{os.sep}zoneinfo{os.sep}" in name else f"read the file {name!r}"


def _socket(watch: Watch, args: tuple[Any, ...]) -> str | None:
    import socket

    # A pair of sockets that talk to each other is how an event loop wakes itself.
    local = getattr(socket, "AF_UNIX", None)
    return None if args[1] == local else "open a socket"


def _sqlite(watch: Watch, args: tuple[Any, ...]) -> str | None:
    name = _text(args[0])
    return None if name in {":memory:", ""} else f"open the database {name!r}"


def _thread(watch: Watch, args: tuple[Any, ...]) -> None:
    """No offence; but what the thread does is watched as well."""
    thread = getattr(args[0], "__self__", None)
    if isinstance(thread, threading.Thread):
        _threads[thread] = watch


def _act(words: str, *places: int) -> Callable[[Watch, tuple[Any, ...]], str | None]:
    """An offence in any case, told with the arguments at these places."""

    def judge(watch: Watch, args: tuple[Any, ...]) -> str | None:
        given = [args[place] for place in places if place < len(args)]
        if any(isinstance(one, str) and _bytecode(one) for one in given):
            return None
        return " ".join([words, *(ascii(_text(one) if isinstance(one, bytes) else one) for one in given)])

    return judge


_JUDGES: Final[dict[str, Callable[[Watch, tuple[Any, ...]], str | None]]] = {
    "open": _open,
    "socket.__new__": _socket,
    "socket.connect": _act("connect to", 1),
    "socket.bind": _act("bind a socket to", 1),
    "socket.sendto": _act("send to", 1),
    "socket.sendmsg": _act("send to", 1),
    "socket.getaddrinfo": _act("look up the host", 0),
    "socket.gethostbyname": _act("look up the host", 0),
    "socket.gethostbyaddr": _act("look up the host", 0),
    "urllib.Request": _act("open the URL", 0),
    "subprocess.Popen": _act("start a process", 1),
    "os.system": _act("start a process", 0),
    "os.exec": _act("start a program", 0),
    "os.posix_spawn": _act("start a process", 0),
    "os.spawn": _act("start a process", 1),
    "os.startfile": _act("start a program", 0),
    "os.fork": _act("start a process"),
    "os.forkpty": _act("start a process"),
    "pty.spawn": _act("start a process", 0),
    "os.kill": _act("send a signal to the process", 0),
    "os.killpg": _act("send a signal to the process group", 0),
    "os.remove": _act("remove the file", 0),
    "os.rename": _act("rename the file", 0, 1),
    "os.mkdir": _act("make the folder", 0),
    "os.rmdir": _act("remove the folder", 0),
    "os.link": _act("link the file", 0, 1),
    "os.symlink": _act("link the file", 0, 1),
    "os.truncate": _act("cut the file", 0),
    "os.chmod": _act("change the mode of", 0),
    "os.chown": _act("change the owner of", 0),
    "os.utime": _act("change the times of", 0),
    "shutil.rmtree": _act("remove the folder", 0),
    "shutil.move": _act("move the file", 0, 1),
    "sqlite3.connect": _sqlite,
    "_thread.start_new_thread": _thread,
    "_thread.start_joinable_thread": _thread,
}
"""What each audited event amounts to, by its name; None where it is harmless."""


def _bytecode(name: str) -> bool:
    """Whether this is what an import leaves behind, by whichever loader."""
    return ".pyc" in os.path.basename(name) or os.path.basename(name) == "__pycache__"  # noqa: PTH119


def _at_import(frame: FrameType | None) -> bool:
    """Whether the import system does it."""
    for _ in range(6):
        if frame is None:
            return False
        module = frame.f_globals.get("__name__", "")
        if module.startswith(("importlib.", "_frozen_importlib", "zipimport")):
            return True
        frame = frame.f_back
    return False


# --- whose line it was ----------------------------------------------------------------------------------


@cache
def _elsewhere() -> tuple[str, ...]:
    """The folders of code that is not the user's: Python's, installed packages', ours."""
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders.update(site.getsitepackages(), [site.getusersitepackages()])
    own = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    return tuple(f"{folder}{os.sep}" for folder in {*folders, own} if folder)


def place_in_user_code(frame: FrameType | None) -> str:
    """
    ``file.py:line`` of the innermost frame that is the user's; where none is, of the innermost that is not Python's own.

    Args:
        frame: Where to begin; its callers follow.
    """
    library: FrameType | None = None
    innermost = frame
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith("<frozen"):
            if not name.startswith(_elsewhere()):
                return f"{name}:{frame.f_lineno}"
            if library is None and "site-packages" in name:
                library = frame
        frame = frame.f_back
    found = library or innermost
    return "an unknown place" if found is None else f"{found.f_code.co_filename}:{found.f_lineno}"
