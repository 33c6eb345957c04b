"""The set-up of a domain: configuration, base, preload, temporary folder, and what is inherited."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloister.domain import start, temporary
from cloister.domain.domain import Domain
from cloister.domain.setup import Setup
from cloister.errors import StartFailed
from cloister.report import Reason
from tests.domain.journal import MODULES
from tests.patience import wait_until

Make = Callable[..., Domain]

CONFIG = "__import__('cloister').current_domain().config"
FILES = {
    "app.toml": "[shop]\nname = 'Ada'\ndepth = 3\n",
    "app.json": json.dumps({"shop": {"name": "Ada", "depth": 3}}),
    "app.ini": "[shop]\nname = Ada\ndepth = 3\nrate = 5%\n",
}


@pytest.mark.parametrize("name", FILES)
def test_configuration_from_a_file(make: Make, tmp_path: Path, name: str) -> None:
    """A file of each kind is read in the host, and its values are what the code in the domain finds."""
    (tmp_path / name).write_text("\ufeff" + FILES[name], encoding="utf-8")
    shop = make(setup=Setup(config=tmp_path / name)).eval(CONFIG)["shop"]
    assert shop["name"] == "Ada"
    assert int(shop["depth"]) == 3


def test_relative_configuration_is_of_the_application_base(make: Make, tmp_path: Path) -> None:
    """O07: a relative path is resolved against the base, not the working directory; a guest's domains inherit it."""
    (tmp_path / "app.json").write_text('{"who": "base"}')
    domain = make(setup=Setup(config="app.json", base=tmp_path))
    assert domain.eval(CONFIG) == {"who": "base"}
    domain.exec(
        "from cloister import Domain, Setup\n"
        f"with Domain('i', setup=Setup(config='app.json')) as i: it = i.eval({CONFIG!r})\n"
    )
    assert domain.eval("it") == {"who": "base"}


def test_base_is_the_folder_of_the_program(tmp_path: Path) -> None:
    """O07: without `base=`, a relative configuration lies beside the program that was started."""
    (tmp_path / "app.json").write_text('{"who": "program"}')
    program = tmp_path / "program.py"
    program.write_text(
        "import cloister\nwith cloister.Domain('a', setup=cloister.Setup(config='app.json')) as a:\n"
        f"    print(a.eval({CONFIG!r})['who'])\n"
    )
    done = subprocess.run(
        [sys.executable, str(program)], cwd="/", capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.stdout, done.stderr) == ("program\n", "")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "gone.toml",
            None,
            r"gone\.toml' \(Setup\.config\) can't be read: No such file.* against the application base",
        ),
        ("bad.toml", "= 3", r"bad\.toml' \(Setup\.config\): Invalid statement"),
        ("bad.json", "{", r"bad\.json' \(Setup\.config\): Expecting property name"),
        ("bad.ini", "no section", r"bad\.ini' \(Setup\.config\): File contains no section"),
        ("list.json", "[1]", r"list\.json' \(Setup\.config\) is no table at its top"),
        ("app.yaml", "a: 1", r"ends in \.toml, \.json, \.ini"),
    ],
)
def test_configuration_that_can_not_be_read(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    """StartFailed at the creation: which domain, which file, what is wrong with it."""
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(StartFailed, match=rf"domain 'shop': .*{said}"):
        Domain("shop", setup=Setup(config=name, base=tmp_path))


def test_two_domains_see_their_own_code_and_configuration(make: Make, tmp_path: Path) -> None:
    """S48: one module name and one key, two private paths and configurations; unloading one leaves the other alone."""
    domains = []
    for who in ("one", "two"):
        (tmp_path / who).mkdir()
        (tmp_path / who / "shop.py").write_text(f"WHO = {who!r}\ndef who():\n    return WHO\n")
        domains.append(make(who, setup=Setup(path=[tmp_path / who], config={"who": who})))
    assert [(domain.call("shop:who"), domain.eval(CONFIG)["who"]) for domain in domains] == [
        ("one", "one"),
        ("two", "two"),
    ]
    assert "shop" not in sys.modules
    domains[0].unload()
    assert domains[1].call("shop:who") == "two"


def test_unloading_frees_everything_of_one_domain(make: Make) -> None:
    """S48: after the end nothing of a domain is held here, its handlers and proxies neither; another one goes on."""
    other = make("other")
    domain = Domain("gone", echo=False, setup=Setup(resolve={"module": lambda lookup: None}, temp=True))
    proxy = domain.with_options(durable=True).create("collections:Counter", "hello")
    held: list[weakref.ref[Any]] = [weakref.ref(domain), weakref.ref(domain._life), weakref.ref(proxy)]
    domain.unload()
    del domain, proxy
    wait_until(lambda: gc.collect() >= 0 and [each() for each in held] == [None] * 3)
    assert other.eval("1 + 1") == 2


def test_configuration_is_inherited_unless_given(make: Make) -> None:
    """A domain that a guest makes has the guest's configuration, search path and environment; or what it is given."""
    domain = make(setup=Setup(path=[MODULES], config={"who": "creator"}, extra_env={"WHO": "creator"}))
    domain.exec(
        "from cloister import Domain, Setup\n"
        f"with Domain('i') as i: first = (i.eval({CONFIG!r}), i.call('troubles:environment', 'WHO'))\n"
        f"with Domain('j', setup=Setup(config={{'who': 'own'}})) as j: second = j.eval({CONFIG!r})\n"
    )
    assert domain.eval("first") == ({"who": "creator"}, "creator")
    assert domain.eval("second") == {"who": "own"}


def test_preload_imports_before_the_initializer(make: Make) -> None:
    """Modules of `preload` are imported, in their order, when the initializer runs."""

    def initialize() -> None:
        import builtins
        import sys

        builtins.LOADED = [name for name in ("troubles", "colorsys") if name in sys.modules]  # type: ignore[attr-defined]  # that is the point

    domain = make(setup=Setup(path=[MODULES], preload=["troubles", "colorsys"], initializer=initialize))
    assert domain.eval("LOADED") == ["troubles", "colorsys"]


def test_preload_that_fails_is_named(make: Make) -> None:
    """StartFailed with the import error, which notes the option and the module."""
    with pytest.raises(StartFailed, match="No module named 'acme_gone'") as caught:
        make(setup=Setup(preload=["acme_gone"])).wait_ready(10)
    assert isinstance(caught.value.__cause__, ImportError)
    assert "'acme_gone' of Setup.preload" in str(caught.value.__cause__.__notes__)


@pytest.mark.parametrize("how", ["unload", "kill"])
def test_temporary_folder_goes_with_the_domain(make: Make, how: str) -> None:
    """`tempfile` uses a folder of the domain's own, which is removed with what is in it, also after a kill."""
    domain = make(setup=Setup(temp=True))
    folder = domain.eval("__import__('tempfile').gettempdir()")
    left = domain.eval("__import__('tempfile').mkstemp()[1]")
    assert os.path.dirname(left) == folder
    assert os.path.exists(left)
    getattr(domain, how)()
    wait_until(lambda: not os.path.exists(folder))


def test_temporary_folder_of_a_start_that_fails_goes_too(make: Make, tmp_path: Path) -> None:
    """Neither a program that can't be run nor an initializer that raises leaves a folder behind."""
    program = tmp_path / "text"
    program.write_text("not a program")
    program.chmod(0o755)
    with pytest.raises(StartFailed):
        Domain(setup=Setup(python=program, temp=True))
    domain = make(setup=Setup(temp=True, preload=["acme_gone"]))
    with pytest.raises(StartFailed) as caught:
        domain.wait_ready(10)
    assert caught.value.report is not None
    assert caught.value.report.reason is Reason.START_FAILED


def test_folders_of_a_host_that_was_killed_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next host removes folders whose host is gone, and no others."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    mine = temporary.make("here")
    gone = tmp_path / os.path.basename(mine).replace(f"-{os.getpid()}-", f"-{2**22 + 1}-")
    elsewhere = tmp_path / f"cloister-temp-1-{2**22 + 2}-x-y"
    for folder in (gone, elsewhere):
        folder.mkdir()
    monkeypatch.setattr(temporary, "_swept", set())
    temporary.remove(temporary.make("next"))
    assert not gone.exists()
    assert elsewhere.exists()
    assert os.path.exists(mine)


@pytest.mark.parametrize(
    "options", [{"preload": "json"}, {"preload": [3]}, {"preload": [".x"]}, {"config": 3}, {"requirements": [3]}]
)
def test_malformed_options_are_refused_by_name(options: dict[str, Any]) -> None:
    """What can't be meant is refused where it is written."""
    (name,) = options
    with pytest.raises(TypeError, match=rf"Setup\.{name}"):
        Setup(**options)


def test_folders_that_are_not_there_name_their_option() -> None:
    """`path`, `cwd` and `base`: StartFailed says which option, which folder."""
    for option, value in (("path", ["/nowhere"]), ("cwd", "/nowhere"), ("base", "/nowhere")):
        with pytest.raises(StartFailed, match=rf"domain 'shop': the folder '/nowhere' of Setup\.{option} is not there"):
            Domain("shop", setup=Setup(**{option: value}))  # type: ignore[arg-type]  # of three types


def test_variables_are_those_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is set, changed and deleted in this process between two starts is so for the next domain; none is shared."""

    def variable(**options: Any) -> str | None:
        return start.plan("subject", Setup(**options)).environment.get("CLOISTER_TEST_VARIABLE")

    monkeypatch.delenv("CLOISTER_TEST_VARIABLE", raising=False)
    assert variable() is None
    monkeypatch.setenv("CLOISTER_TEST_VARIABLE", "one")
    assert variable() == "one"
    monkeypatch.setenv("CLOISTER_TEST_VARIABLE", "two")
    assert variable() == "two"
    assert variable(extra_env={"CLOISTER_TEST_VARIABLE": "own"}) == "own"
    assert variable() == "two"
    monkeypatch.delenv("CLOISTER_TEST_VARIABLE")
    assert variable() is None
