"""The protocol's version: a mismatch names both and what to upgrade."""

from __future__ import annotations

import pytest

from cloister.errors import ProtocolError, VersionMismatch
from cloister.wire.version import PROTOCOL_VERSION, check_version


def test_the_same_version_is_accepted() -> None:
    """A peer of the same version passes, whatever cloister it runs."""
    check_version(PROTOCOL_VERSION)
    check_version(PROTOCOL_VERSION, "9.9")


def test_a_newer_peer_says_to_upgrade_here() -> None:
    """A mismatch names both versions, the peer's cloister, and the side that is behind."""
    with pytest.raises(VersionMismatch) as caught:
        check_version(PROTOCOL_VERSION + 1, "2.0")
    text = str(caught.value)
    assert f"the guest (cloister 2.0) speaks version {PROTOCOL_VERSION + 1}" in text
    assert f"this side speaks version {PROTOCOL_VERSION}" in text
    assert text.endswith("Upgrade cloister here")


def test_an_older_peer_says_to_upgrade_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the peer is behind, its side is to be upgraded; a cloister version that is no short text is left out."""
    monkeypatch.setattr("cloister.wire.version.PROTOCOL_VERSION", 7)
    with pytest.raises(VersionMismatch, match=r"the host speaks version 6.*Upgrade cloister where the host runs"):
        check_version(6, b"\xff", peer="the host")


@pytest.mark.parametrize("theirs", [None, "1", 0, -1, True, 1.0, [1]])
def test_what_is_no_version_is_a_protocol_error(theirs: object) -> None:
    """A greeting without a version is not a mismatch but no greeting at all."""
    with pytest.raises(ProtocolError, match="did not say") as caught:
        check_version(theirs)
    assert type(caught.value) is ProtocolError
