"""The messages of the protocol: one kind per frame, and the shape of each kind's body.

Here are the numbers and the shapes; how a frame looks is in `frames`, how a value becomes bytes in `values`. Nothing
here waits, reads or writes: this module is pure, and any thread may enter.

Every body is one encoded list. "Number" is the number of a call: each side of a lane counts its own calls from 1.
"Target" is the id of an object of the receiver, 0 is the receiver's service (`create`, `call`, `exec` …).

=============  =====  ==============  =========================================================================
kind           value  sent by         body
=============  =====  ==============  =========================================================================
on a lane
CALL               1  both            [number, target, name, args: list, kwargs: dict or nil, options: dict or nil]
REPLY              2  both            [number, value]
RAISE              3  both            [number, exception as `exceptions.describe` makes it]
ONE_WAY            4  both            as CALL; the number is 0 and there is no answer
PART               5  guest           [number, value]: on a shared lane, what a call has to tell before its answer;
                                      nil on the lane of a pool: it has not begun, and will not
CALLS              6  both            [[as CALL], …]: a row of calls on a shared lane; MessagePack's own types alone
REPLIES            7  both            [[as REPLY], …]: a row of answers on a shared lane; likewise
on a control channel
SEGMENT           42  host            [segment, size, upwards: bool, ticket] and one descriptor; segment 0 is the ledger
WANT_SEGMENT      43  guest           [ticket, size]: the guest wants to write a segment; [0, 0]: it can use segments
HAVE_SEGMENT      44  guest           [segment]: it is mapped, and may be lent from now on
NO_SEGMENT        45  host            [ticket]: the segment that was asked for can't be had
DROP_SEGMENT      46  both            [[segment, …]]: will not be used any more, or can't be had over here
BUILD             40  host            [order: dict]: make an environment, then become the guest; before HELLO
BUILDING          41  guest           [stage, text]: ``line`` of progress, or ``failed``; before HELLO
HELLO             16  guest           [protocol version, cloister version, Python version, pid]
SETUP             17  host            [set-up: dict]
READY             18  guest           []
FAILED            19  guest           [exception]: the set-up failed; the guest ends
BEAT              20  guest           [sequence, CPU time in ns, [[lane, number] of each call that runs, …]]
LANE              21  host            [lane, role, ticket] and two descriptors: the guest's read and write end
WANT_LANE         22  guest           [ticket]: a thread of the guest's own wants to call the host; [ticket, role]: so
                                      does a loop of the guest's, where the role is GUEST_SHARED
CANCEL            23  host            [lane, number]: raise in the code that serves this call; ignored if it is over
RELEASE           24  both            [[object, how often received, how often sent home], …]
LOG               25  guest           [name, level, message, created, path, line, function, thread, exception text]
EVENT             26  guest           [name, exception]: something that no caller waits for; or
                                      ["module_loaded", [module, file]], or ["raised", [type, message, file,
                                      line, function, thread]], where the host wants to know
STOP              27  host            [grace in ms]: run exit hooks and end; CHILDREN may come first
LAST_WORDS        28  guest           [reason, exit code, text]: the guest ends by itself and says why
REWIND            29  host            []: the stacks were read, write the next ones from the start
OVER              30  guest           [lane, number]: a call that a CANCEL named has unwound, or will never begin
NO_LANE           31  host            [ticket, text]: the lane that was asked for can't be had, and why
DESCRIPTOR        32  host            [token] and one descriptor, for a reference that names the token
NO_DESCRIPTOR     33  host            [[token, …]]: close these, where no reference has come for them
FAREWELL          34  both            of the host []: STOP follows, run the handlers of that; of the guest [wants]: it
                                      has such handlers, true, or they have run, false
UNLOAD            35  guest           []: unload this domain
WAIT              36  guest           [wait, strand, [strand that has it, …], turn or text]: a strand has waited for a
                                      turn, or for what the text names, for a while, and has no time limit; it may
                                      come again; [wait]: that is over, or not as it was
STILL             37  both            of the host [wait, question]: is it as it was told? Of the guest the same: it is
DEADLOCK          38  host            [wait, text]: it can never end; raise this in it
CHILDREN          47  guest           []: it has child processes: said once with a beat, and where it was told to
                                      stop; the host notes then which they are, and says STOP again; the guest ends
RECALL            39  host            [lane, [number, …]]: give back those of these calls that have not begun, on the
                                      lane of a pool: each with PART of nil, and REPLY
=============  =====  ==============  =========================================================================

Options of a call, all optional and each sent only when it is used: ``"left"``, the time left in ns; ``"logical"``, the
identity of the logical thread that calls; ``"strand"``, that of its strand where it is another one; and from a host
only ``"context"``, values of context variables by their names, and ``"trace"``, ``traceparent`` and ``tracestate`` of
W3C. An option that the receiver does not know is ignored; a kind that it does not know is a `ProtocolError`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = ["COPY", "SERVICE", "Kind", "Role"]

SERVICE: Final = 0
"""The target that is not an object but the receiver's service."""

COPY: Final = 0x01
"""Flag of a CALL: the result must travel by value, or by a reference that its owner asked for."""


class Kind(IntEnum):
    """What a frame is; see the table above."""

    CALL = 1
    REPLY = 2
    RAISE = 3
    ONE_WAY = 4
    PART = 5
    CALLS = 6
    REPLIES = 7

    HELLO = 16
    SETUP = 17
    READY = 18
    FAILED = 19
    BEAT = 20
    LANE = 21
    WANT_LANE = 22
    CANCEL = 23
    RELEASE = 24
    LOG = 25
    EVENT = 26
    STOP = 27
    LAST_WORDS = 28
    REWIND = 29
    OVER = 30
    NO_LANE = 31
    DESCRIPTOR = 32
    NO_DESCRIPTOR = 33
    FAREWELL = 34
    UNLOAD = 35
    WAIT = 36
    STILL = 37
    DEADLOCK = 38
    RECALL = 39
    CHILDREN = 47
    SEGMENT = 42
    WANT_SEGMENT = 43
    HAVE_SEGMENT = 44
    NO_SEGMENT = 45
    DROP_SEGMENT = 46
    BUILD = 40
    BUILDING = 41


class Role(IntEnum):
    """What a lane is for, told to the guest when it is opened."""

    MAIN = 0
    """A call lane that the guest's main thread serves."""
    CALL = 1
    """A call lane that a thread of its own serves."""
    SHARED = 2
    """Many calls at once, by number; a pool serves them."""
    GUEST = 3
    """A call lane on which a thread of the guest's own calls the host."""
    MAIN_ONLY = 4
    """As MAIN; but where the main thread is held up, the lane waits for it, and no other thread serves it instead."""
    GUEST_SHARED = 5
    """Many calls at once, by number, of a loop of the guest's; the host serves it."""
    WORK = 6
    """The work of a pool's worker, by number: one after the other, in their order."""
