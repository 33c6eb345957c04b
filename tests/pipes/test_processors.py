"""The quota of processor time, as files of the kernel tell it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloister.pipes import processors

TWO = "0::{path}\n", "35 23 0:30 {root} {mount} rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
ONE = (
    "9:name=systemd:/else\n2:cpuacct:/else\n1:cpu,extra:{path}\n0::/\n",
    "32 31 0:29 {root} {mount} rw - cgroup cgroup rw,cpu,extra\n33 31 0:30 / /nowhere rw - cgroup cgroup rw,cpuacct\n",
)


def write(folder: Path, **files: str) -> None:
    """Make a folder with these files; a name stands for the one with a point."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("cpu_", "cpu.", 1)).write_text(text, encoding="utf-8")


def proc(place: Path, texts: tuple[str, str], path: str, root: str = "/") -> str:
    """Make what stands for /proc/self, of a process in the group `path`."""
    mount = str(place / "a mount").replace(" ", r"\040")
    write(
        place / "proc",
        cgroup=texts[0].format(path=path),
        mountinfo="1 0 8:1 / / rw - ext4 /dev/root rw\n" + texts[1].format(root=root, mount=mount),
    )
    return str(place / "proc")


def test_quota_of_version_2_is_the_least_of_all_groups_around(tmp_path: Path) -> None:
    """Each group around the process may have a limit; the least one holds."""
    mount = tmp_path / "a mount"
    write(mount / "slice" / "inner", cpu_max="max 100000\n")
    write(mount / "slice", cpu_max="150000 100000\n")
    assert processors.quota(proc(tmp_path, TWO, "/slice/inner")) == 1.5
    write(mount / "slice" / "inner", cpu_max="50000 100000\n")
    assert processors.quota(proc(tmp_path, TWO, "/slice/inner")) == 0.5


def test_quota_of_version_1_is_read_from_its_two_files(tmp_path: Path) -> None:
    """The older groups say quota and period apart, and -1 for none."""
    mount = tmp_path / "a mount"
    write(mount / "box", cpu_cfs_quota_us="25000\n", cpu_cfs_period_us="100000\n")
    write(mount, cpu_cfs_quota_us="-1\n", cpu_cfs_period_us="100000\n")
    assert processors.quota(proc(tmp_path, ONE, "/box")) == 0.25
    assert processors.quota(proc(tmp_path, ONE, "/")) is None


@pytest.mark.parametrize("root", ["/docker/box", "/"])
def test_quota_is_found_where_the_mount_is_the_group_itself(tmp_path: Path, root: str) -> None:
    """In a container the own group is mounted; the path of the process may be seen from outside of it."""
    write(tmp_path / "a mount", cpu_max="100000 100000\n")
    assert processors.quota(proc(tmp_path, TWO, "/docker/box", root)) == 1.0


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "said"),
    [
        ("", "", "max 100000"),
        ("0::/\n", "rubbish\n", "1 1"),
        ("rubbish\n", "", "1 1"),
        (TWO[0].format(path="/"), None, "max"),
        (TWO[0].format(path="/../../up"), None, "ten 100000"),
        (TWO[0].format(path="/"), None, "100000 0"),
        (TWO[0].format(path="/"), None, "max 100000"),
    ],
)
def test_no_quota_is_known_where_nothing_says_one(
    tmp_path: Path, cgroup: str, mountinfo: str | None, said: str
) -> None:
    """Files that are missing, or make no sense, are no quota and no error."""
    write(tmp_path / "a mount", cpu_max=said)
    where = proc(tmp_path, TWO, "/")
    write(Path(where), cgroup=cgroup)
    if mountinfo is not None:
        write(Path(where), mountinfo=mountinfo)
    assert processors.quota(where) is None
    assert processors.quota(str(tmp_path / "missing")) is None


def test_quota_of_this_process_raises_nothing() -> None:
    """On any platform the question has an answer."""
    found = processors.quota()
    assert found is None or found > 0
