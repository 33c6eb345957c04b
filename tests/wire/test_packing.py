"""Which MessagePack is used, and how a guest in a foreign environment gets one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import cloister
from cloister.wire.packing import PRIVATE_NAME, default_packing, load_msgpack, msgpack_directory
from cloister.wire.values import Codec
from tests.wire.samples import REGISTRY, SAMPLES

SOURCE = str(Path(cloister.__file__).parent.parent)

PROGRAM = """
import json, sys
source, directory, pure = json.loads(sys.argv[1])
sys.path.insert(0, source)
from cloister.wire.packing import PRIVATE_NAME, default_packing, load_msgpack
from cloister.wire.values import Codec
packing = load_msgpack(pure=pure, directory=directory)
assert load_msgpack(pure=pure, directory=directory).packer is packing.packer
codec = Codec(packing=packing)
value = codec.decode(sys.stdin.buffer.read())
try:
    import msgpack
except ImportError:
    pass
else:
    raise SystemExit("msgpack became importable")
assert default_packing().ext_type.__module__.startswith(PRIVATE_NAME)
sys.stdout.buffer.write(bytes([packing.compiled]) + codec.encode(value))
"""


@pytest.mark.parametrize("pure", [True, False], ids=["pure", "compiled"])
def test_a_guest_without_msgpack_loads_the_host_s_under_a_private_name(pure: bool) -> None:
    """In an interpreter that has no packages, msgpack comes from a directory, and nothing else becomes importable."""
    names = [name for name in SAMPLES if type(SAMPLES[name]).__module__ in ("builtins", "datetime", "decimal")]
    data = Codec(registry=REGISTRY).encode([SAMPLES[name] for name in names])
    # -I -S: no site-packages, no environment, no current directory.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROGRAM, json.dumps([SOURCE, msgpack_directory(), pure])],
        input=data, capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout[1:] == data
    assert done.stdout[0] == (not pure and load_msgpack().compiled)


def test_a_directory_without_msgpack_is_an_import_error(tmp_path: Path) -> None:
    """A wrong directory is an ImportError that names it, and leaves nothing behind."""
    for directory in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ImportError, match="there is no package msgpack"):
            load_msgpack(directory=str(directory))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "__init__.py").write_text("1 / 0")
    with pytest.raises(ZeroDivisionError):
        load_msgpack(directory=str(broken))
    assert PRIVATE_NAME not in sys.modules


def test_the_compiled_implementation_is_taken_where_it_is() -> None:
    """Without a wish the compiled one is taken; the one in Python on demand; both are the same library."""
    assert default_packing() is default_packing()
    assert default_packing().compiled == load_msgpack().compiled
    assert not load_msgpack(pure=True).compiled
    assert load_msgpack(pure=True).ext_type is load_msgpack().ext_type
