"""Every error that cloister raises on purpose.

Here are the classes and what each one means; messages are written where the error is raised. Nothing here
imports anything of cloister but the report of a domain's end, which two errors carry.

Each class says who caused it, what to do next, and what it is not::

    CloisterError
    +-- DomainError                     the domain as a whole
    |   +-- DomainUnloaded              it was unloaded, by you
    |   +-- DomainCrashed               it ended by itself; has a report
    |   +-- CannotUnload                it can't or won't end
    |   +-- StartFailed                 it never became ready; has a report
    |   |   +-- EnvironmentFailed       its virtual environment could not be made
    |   +-- LevelUnavailable            this machine or Python can't provide the level
    |   +-- SandboxUnavailable          this machine can't enforce the permissions
    +-- CallError                       one call; the domain goes on
    |   +-- CallTimeout                 (TimeoutError)
    |   +-- CallCancelled
    |   +-- MarshalError                (TypeError) a value can't travel
    |   +-- RemoteError                 the guest raised what has no type here
    |   +-- DeadlockDetected
    +-- PermissionDenied                (PermissionError)
    +-- WrongProcess                    used in a forked child of its owner
    +-- ProtocolError                   the peer sent what the protocol forbids
    |   +-- VersionMismatch             it speaks another version of the protocol
    +-- PipeError                       (OSError) one pipe
        +-- PipeTimeout                 (TimeoutError)
        +-- PipeCancelled
        +-- PipeClosed                  (EOFError)
        +-- NotConnected
        +-- PipeBusy
        +-- MessageTooLarge             (ValueError)
        +-- NameTaken
        +-- BadName                     (ValueError)

All of them can be pickled and copied with everything that they carry, because errors cross processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloister.report import Report

__all__ = [
    "BadName",
    "CallCancelled",
    "CallError",
    "CallTimeout",
    "CannotUnload",
    "CloisterError",
    "DeadlockDetected",
    "DomainCrashed",
    "DomainError",
    "DomainUnloaded",
    "EnvironmentFailed",
    "LevelUnavailable",
    "MarshalError",
    "MessageTooLarge",
    "NameTaken",
    "NotConnected",
    "PermissionDenied",
    "PipeBusy",
    "PipeCancelled",
    "PipeClosed",
    "PipeError",
    "PipeTimeout",
    "ProtocolError",
    "RemoteError",
    "SandboxUnavailable",
    "StartFailed",
    "VersionMismatch",
    "WrongProcess",
]


class CloisterError(Exception):
    """The root: ``except CloisterError`` catches all that cloister itself raises.

    What the code in a domain raises is not wrapped: a ``ValueError`` over there is a ``ValueError`` here.
    """


# -- one domain ------------------------------------------------------------------------------------------------------


class DomainError(CloisterError):
    """Something about a domain as a whole, not about one call."""


class DomainUnloaded(DomainError):
    """The domain was unloaded by this program, before or during the call.

    Make a new domain. This is not a crash: the domain ended because it was asked to.
    """


class DomainCrashed(DomainError):
    """The domain ended by itself while it was still wanted: a signal, an exit, memory, a bad message.

    `report` says what is known about the end; ``str(error)`` is the report as text. The state that lived in the
    domain is gone; make a new one. It is not known whether the call that was running had its effects.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(report)

    @property
    def report(self) -> Report:
        """What is known about the end."""
        report: Report = self.args[0]
        return report


class CannotUnload(DomainError):
    """The domain can't be unloaded: it is the default domain, or its thread did not end in time.

    The default domain ends with the process. A domain at the process level can always be ended.
    """


class StartFailed(DomainError):
    """The domain never became ready: no such interpreter, an initializer that raised, a start time-out.

    `report` holds what the guest wrote before it ended, or None when nothing was started. Correct the set-up; the
    same set-up will fail again.
    """

    def __init__(self, message: str, report: Report | None = None) -> None:
        super().__init__(message, report)

    def __str__(self) -> str:
        return str(self.args[0]) if self.report is None else f"{self.args[0]}\n{self.report}"

    @property
    def report(self) -> Report | None:
        """What is known about the failed start, or None."""
        report: Report | None = self.args[1]
        return report


class EnvironmentFailed(StartFailed):
    """The virtual environment that a set-up asks for could not be made.

    The message has the words of the program that resolves and installs, and the requirements that they are about.
    Correct `Setup.requirements` or the configuration of indexes; where a network was not there, the same set-up may
    work later.
    """


class LevelUnavailable(DomainError):
    """The level asked for does not exist here, or can't give the guarantee asked for.

    The message says what is missing. cloister never falls back to a weaker level by itself.
    """


class SandboxUnavailable(DomainError):
    """The permissions asked for can't be enforced on this machine. Nothing was started.

    Nothing raises it yet: it comes with permissions.
    """


# -- one call --------------------------------------------------------------------------------------------------------


class CallError(CloisterError):
    """Something about one call. The domain goes on and takes the next call."""


class CallTimeout(CallError, TimeoutError):
    """The time given to the call was used up. The call was told to stop; the domain and its state stay.

    It is not known how far the call came. A late reply is thrown away. With `kill_after` the domain may have been
    killed: `report` and the message say so.
    """

    report: Report | None = None
    """How the domain ended, where the call did not stop and the domain was killed for it, or where it ended by itself
    meanwhile; None where the domain goes on."""


class CallCancelled(CallError):
    """The call was cancelled from this side before it had an answer."""

    report: Report | None = None
    """As `CallTimeout.report`."""


class MarshalError(CallError, TypeError):
    """A value can't travel. Nothing was sent, or the call ran and its result could not come back.

    The message names the path to the value (``result.rows[3].lock``), its type, and the ways out.
    """


class RemoteError(CallError):
    """The guest raised an exception whose type is unknown here, or that must not be raised here by a guest.

    A guest's ``SystemExit``, ``KeyboardInterrupt`` and other exceptions outside ``Exception`` always arrive as one:
    code in a domain can't end its host. Where this program has a class of exceptions and has marked it with
    `cloister.by_value`, they keep their type.
    """

    def __init__(self, type_name: str, message: str = "", traceback_text: str = "") -> None:
        super().__init__(type_name, message, traceback_text)

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}" if self.message else self.type_name

    def __repr__(self) -> str:
        return f"RemoteError({self.type_name!r}, {self.message!r})"

    @property
    def type_name(self) -> str:
        """The qualified name of the type over there, such as ``acme.errors.OutOfPaper``. Never imported here."""
        name: str = self.args[0]
        return name

    @property
    def message(self) -> str:
        """What ``str()`` of the exception gave over there."""
        text: str = self.args[1]
        return text

    @property
    def traceback_text(self) -> str:
        """The traceback as the guest printed it; empty where it had none."""
        text: str = self.args[2]
        return text


class DeadlockDetected(CallError):
    """The call would have waited for something that waits for the call. The message shows the chain."""


class PermissionDenied(CloisterError, PermissionError):
    """The domain tried what its permissions do not grant. Nothing raises it yet: it comes with permissions."""


class WrongProcess(CloisterError):
    """A domain or a pipe was used in a forked child of the process that owns it.

    It stays usable in its owner. Make a new one after the fork.
    """


class ProtocolError(CloisterError):
    """The peer sent what the protocol forbids, or this side was asked to.

    A caller of a domain never sees it: it ends the domain with the reason ``bad message``. Who reads the wire
    for himself gets it from the decoder.
    """


class VersionMismatch(ProtocolError):
    """The two sides speak different versions of the protocol. The message names both and what to upgrade."""


# -- one pipe --------------------------------------------------------------------------------------------------------


class PipeError(CloisterError, OSError):
    """Something about one pipe or one pipe server. `errno` is set where the system gave one."""

    begun: bool = False
    """From a write: a part of the message has left, and its rest goes first with the next write or `flush()`, so
    don't write it again. False: nothing of it has left."""


class PipeTimeout(PipeError, TimeoutError):
    """The time given to the operation was used up. Nothing is lost: the pipe can be used again.

    Where a message was half written and can't be completed, `NotConnected` says so at the next use.
    """


class PipeCancelled(PipeError):
    """This side cancelled the operation, with `cancel()` or by closing the pipe or the server in another thread."""


class PipeClosed(PipeError, EOFError):
    """The peer closed its end, or is gone. All that it sent before has been read."""


class NotConnected(PipeError):
    """The pipe is not connected (any more) on this side: it was closed here, or a torn message broke it."""


class PipeBusy(PipeError):
    """The server serves as many clients as it allows. Wait for a free instance, or try later."""


class MessageTooLarge(PipeError, ValueError):
    """A message is longer than the limit. Written: nothing was sent. Read: the message was not taken in."""


class NameTaken(PipeError):
    """Another server listens under this name. It is never stolen: choose another name, or end that server."""


class BadName(PipeError, ValueError):
    """The name can't be a pipe's name, or what lies at its place is not to be trusted. The message says the rule."""
