"""cloister runs code in isolated domains and lets you call it as if it were local.

Everything public is here, or in `cloister.pipes`, `cloister.aio`, `cloister.arrays`, `cloister.events` and
`cloister.errors`. A name is imported when it is first used, so that ``import cloister`` is quick and a guest loads only
what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cloister import release

__version__ = release.VERSION

if TYPE_CHECKING:
    from cloister import aio, arrays, errors, pipes
    from cloister.calling import logical_thread, timeout
    from cloister.contexts.bound import ContextBound, context_of, intercepted, synchronized
    from cloister.contexts.context import Context, current_context
    from cloister.contexts.rules import ContextCall, Synchronization
    from cloister.domain import events
    from cloister.domain.creation import Creation, CreationHook, creation_hook
    from cloister.domain.default import current_domain, domains
    from cloister.domain.domain import Domain
    from cloister.domain.functions import domain_of, one_way, submit
    from cloister.domain.resolving import Found, Lookup
    from cloister.domain.setup import Setup, Watchdog
    from cloister.domain.start import warm_up
    from cloister.errors import (
        BadName,
        CallCancelled,
        CallError,
        CallTimeout,
        CannotUnload,
        CloisterError,
        DeadlockDetected,
        DomainCrashed,
        DomainError,
        DomainUnloaded,
        EnvironmentFailed,
        LevelUnavailable,
        MarshalError,
        MessageTooLarge,
        NameTaken,
        NotConnected,
        PermissionDenied,
        PipeBusy,
        PipeCancelled,
        PipeClosed,
        PipeError,
        PipeTimeout,
        ProtocolError,
        RemoteError,
        SandboxUnavailable,
        StartFailed,
        VersionMismatch,
        WrongProcess,
    )
    from cloister.executor.pool import DomainPoolExecutor
    from cloister.guest.main_loop import MainLoop
    from cloister.inspection.listing import ListedClass, ListedCode, ListedEntryPoint, ListedFunction, ListedModule
    from cloister.inspection.places import inspect_code
    from cloister.objects.handles import ObjectHandle
    from cloister.objects.leases import Lease, lease
    from cloister.objects.marks import by_reference, code, pickled, share, stream
    from cloister.objects.proxies import is_proxy
    from cloister.objects.signals import Connection, Signal
    from cloister.report import Reason, Report
    from cloister.travel import trace_context, tracing, travels
    from cloister.wire.registry import by_value

__all__ = [
    "BadName",
    "CallCancelled",
    "CallError",
    "CallTimeout",
    "CannotUnload",
    "CloisterError",
    "Connection",
    "Context",
    "ContextBound",
    "ContextCall",
    "Creation",
    "CreationHook",
    "DeadlockDetected",
    "Domain",
    "DomainCrashed",
    "DomainError",
    "DomainPoolExecutor",
    "DomainUnloaded",
    "EnvironmentFailed",
    "Found",
    "Lease",
    "LevelUnavailable",
    "ListedClass",
    "ListedCode",
    "ListedEntryPoint",
    "ListedFunction",
    "ListedModule",
    "Lookup",
    "MainLoop",
    "MarshalError",
    "MessageTooLarge",
    "NameTaken",
    "NotConnected",
    "ObjectHandle",
    "PermissionDenied",
    "PipeBusy",
    "PipeCancelled",
    "PipeClosed",
    "PipeError",
    "PipeTimeout",
    "ProtocolError",
    "Reason",
    "RemoteError",
    "Report",
    "SandboxUnavailable",
    "Setup",
    "Signal",
    "StartFailed",
    "Synchronization",
    "VersionMismatch",
    "Watchdog",
    "WrongProcess",
    "aio",
    "arrays",
    "by_reference",
    "by_value",
    "code",
    "context_of",
    "creation_hook",
    "current_context",
    "current_domain",
    "domain_of",
    "domains",
    "errors",
    "events",
    "inspect_code",
    "intercepted",
    "is_proxy",
    "lease",
    "logical_thread",
    "one_way",
    "pickled",
    "pipes",
    "share",
    "stream",
    "submit",
    "synchronized",
    "timeout",
    "trace_context",
    "tracing",
    "travels",
    "warm_up",
]

_MODULES = {
    "aio": "cloister.aio",
    "arrays": "cloister.arrays",
    "errors": "cloister.errors",
    "events": "cloister.domain.events",
    "pipes": "cloister.pipes",
}
_ERRORS = "cloister.errors"
_HOMES = {
    "Connection": "cloister.objects.signals",
    "Context": "cloister.contexts.context",
    "ContextBound": "cloister.contexts.bound",
    "ContextCall": "cloister.contexts.rules",
    "Creation": "cloister.domain.creation",
    "CreationHook": "cloister.domain.creation",
    "Domain": "cloister.domain.domain",
    "DomainPoolExecutor": "cloister.executor.pool",
    "Found": "cloister.domain.resolving",
    "Lease": "cloister.objects.leases",
    "ListedClass": "cloister.inspection.listing",
    "ListedCode": "cloister.inspection.listing",
    "ListedEntryPoint": "cloister.inspection.listing",
    "ListedFunction": "cloister.inspection.listing",
    "ListedModule": "cloister.inspection.listing",
    "Lookup": "cloister.domain.resolving",
    "MainLoop": "cloister.guest.main_loop",
    "ObjectHandle": "cloister.objects.handles",
    "Reason": "cloister.report",
    "Report": "cloister.report",
    "Setup": "cloister.domain.setup",
    "Signal": "cloister.objects.signals",
    "Synchronization": "cloister.contexts.rules",
    "Watchdog": "cloister.domain.setup",
    "by_reference": "cloister.objects.marks",
    "by_value": "cloister.wire.registry",
    "code": "cloister.objects.marks",
    "context_of": "cloister.contexts.bound",
    "creation_hook": "cloister.domain.creation",
    "current_context": "cloister.contexts.context",
    "current_domain": "cloister.domain.default",
    "domain_of": "cloister.domain.functions",
    "domains": "cloister.domain.default",
    "inspect_code": "cloister.inspection.places",
    "intercepted": "cloister.contexts.bound",
    "is_proxy": "cloister.objects.proxies",
    "lease": "cloister.objects.leases",
    "logical_thread": "cloister.calling",
    "one_way": "cloister.domain.functions",
    "pickled": "cloister.objects.marks",
    "share": "cloister.objects.marks",
    "stream": "cloister.objects.marks",
    "submit": "cloister.domain.functions",
    "synchronized": "cloister.contexts.bound",
    "timeout": "cloister.calling",
    "trace_context": "cloister.travel",
    "tracing": "cloister.travel",
    "travels": "cloister.travel",
    "warm_up": "cloister.domain.start",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use. Raises AttributeError for any other."""
    if name in _MODULES:
        found: Any = import_module(_MODULES[name])
    elif name in __all__:
        found = getattr(import_module(_HOMES.get(name, _ERRORS)), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
