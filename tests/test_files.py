"""Writing: whole or not at all, through links, onto mounts, with modes kept, without leftovers."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from speech2image import files
from speech2image.errors import OutputError
from speech2image.files import check_writable, writing


def write(path: Path, text: str) -> None:
    with writing(path) as temporary:
        temporary.write_text(text)


def write_folder(path: Path, text: str) -> None:
    with writing(path) as temporary:
        temporary.mkdir()
        (temporary / "a").write_text(text)
        (temporary / "b").write_text(text)


def contents(folder: Path) -> dict[str, str]:
    return {child.name: child.read_text() for child in folder.iterdir()}


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.fixture(params=[True, False], ids=["exchange", "two renames"])
def exchange(request, monkeypatch) -> None:
    """With and without a file system on which folders change their names for one another."""
    if not request.param:
        monkeypatch.setattr(files, "_exchange", lambda new, place: False)


def test_a_file_and_its_parents(tmp_path: Path) -> None:
    write(tmp_path / "new" / "folder" / "a.txt", "1")
    write(tmp_path / "new" / "folder" / "a.txt", "2")
    assert contents(tmp_path / "new" / "folder") == {"a.txt": "2"}


def test_the_temporary_path_ends_in_the_name(tmp_path: Path) -> None:
    for name in ("a.npy", "a" * 250 + ".npy", "桜" * 85):
        with writing(tmp_path / name) as temporary:
            assert temporary.name == name
            temporary.touch()
        assert [path.name for path in tmp_path.iterdir()] == [name]
        (tmp_path / name).unlink()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left on device")])
def test_a_failure_keeps_what_was_there(tmp_path: Path, error) -> None:
    write(tmp_path / "a", "1")
    write_folder(tmp_path / "f", "1")
    for path in (tmp_path / "a", tmp_path / "f" / "a"):
        with pytest.raises((KeyboardInterrupt, OutputError)), writing(path) as temporary:
            temporary.write_text("half")
            raise error
    assert (tmp_path / "a").read_text() == "1" and contents(tmp_path / "f") == {"a": "1", "b": "1"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "f"]


@pytest.mark.usefixtures("exchange")
def test_a_folder_is_replaced(tmp_path: Path) -> None:
    write_folder(tmp_path / "f", "1")
    (tmp_path / "f" / "c").write_text("of the old one")
    (tmp_path / "f").chmod(0o750)
    write_folder(tmp_path / "f", "2")
    assert contents(tmp_path / "f") == {"a": "2", "b": "2"}
    assert mode(tmp_path / "f") == 0o750
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_replaced_folder_is_never_missing(tmp_path: Path) -> None:
    """A reader opens it again and again while writers replace it."""
    write_folder(tmp_path / "f", "0")
    if not files._exchange(tmp_path / "f", tmp_path / "f"):
        pytest.skip("this file system cannot exchange folders")
    done, seen = threading.Event(), []

    def read() -> None:
        while not done.is_set():
            seen.append((tmp_path / "f").is_dir())

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(100):
        write_folder(tmp_path / "f", str(number))
    done.set()
    reader.join()
    assert seen and all(seen)


@pytest.mark.usefixtures("exchange")
def test_several_writers_end_with_one_whole_result(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def keep_writing(text: str) -> None:
        try:
            for _ in range(20):
                write_folder(tmp_path / "f", text)
                write(tmp_path / "file", text * 1000)
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=keep_writing, args=(text,)) for text in "123"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not failures
    assert contents(tmp_path / "f") in [{"a": text, "b": text} for text in "123"]
    assert (tmp_path / "file").read_text() in [text * 1000 for text in "123"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "file"]


@pytest.mark.parametrize("look", range(1, 9))
def test_a_folder_that_another_writer_puts_aside_meanwhile(tmp_path: Path, monkeypatch, look: int) -> None:
    """It may vanish after any look at it; it is replaced then, not written over file by file."""
    place, looks, stat = tmp_path / "f", [], Path.stat

    def then_gone(path: Path, **options):
        found = stat(path, **options)
        if path == place:
            looks.append(path)
            if len(looks) == look:
                place.rename(tmp_path / "aside")
        return found

    write_folder(place, "1")
    monkeypatch.setattr(files, "_write_over", lambda new, place: pytest.fail("written over"))
    monkeypatch.setattr(Path, "stat", then_gone)
    write_folder(place, "2")
    monkeypatch.undo()
    assert contents(place) == {"a": "2", "b": "2"}


KILLED = """
import os, signal, sys
from pathlib import Path
from speech2image.files import writing
with writing(Path(sys.argv[1])) as temporary:
    temporary.mkdir()
    (temporary / "a").write_text("half")
    print("there", flush=True)
    if sys.argv[2] == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
    (temporary / "b").write_text("whole")
"""


def other_writer(path: Path, what: str) -> subprocess.Popen:
    command = [sys.executable, "-c", KILLED, str(path), what]
    environment = os.environ | {"PYTHONPATH": str(Path(files.__file__).parents[1])}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None and process.stdout.readline() == "there\n"
    return process


def test_what_a_killed_writer_left_goes_with_the_next_one(tmp_path: Path) -> None:
    write_folder(tmp_path / "f", "1")
    other_writer(tmp_path / "f", "dies").communicate()
    assert contents(tmp_path / "f") == {"a": "1", "b": "1"}
    assert len(list(tmp_path.iterdir())) == 2
    write(tmp_path / "something else", "2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "something else"]


def test_what_a_living_writer_makes_stays(tmp_path: Path) -> None:
    process = other_writer(tmp_path / "f", "lives")
    write_folder(tmp_path / "f", "1")
    check_writable(tmp_path / "f")
    process.communicate("go on")
    assert process.returncode == 0
    assert contents(tmp_path / "f") == {"a": "half", "b": "whole"}
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_other_hidden_files_stay(tmp_path: Path) -> None:
    (tmp_path / ".speech2image").mkdir()
    (tmp_path / ".fedcba9876543210.speech2image").write_text("a file of the user's")
    write(tmp_path / "a", "1")
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("target", ["there", "not there"])
def test_through_a_link_its_target_is_written(tmp_path: Path, target: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    if target == "there":
        (tmp_path / "elsewhere" / "a.txt").write_text("1")
    (tmp_path / "link.png").symlink_to("second")
    (tmp_path / "second").symlink_to(Path("elsewhere") / "a.txt")
    check_writable(tmp_path / "link.png")
    write(tmp_path / "link.png", "2")
    assert (tmp_path / "link.png").is_symlink() and (tmp_path / "second").is_symlink()
    assert contents(tmp_path / "elsewhere") == {"a.txt": "2"}


def test_through_a_link_its_folder_is_replaced(tmp_path: Path) -> None:
    write_folder(tmp_path / "v1", "1")
    (tmp_path / "current").symlink_to("v1")
    write_folder(tmp_path / "current", "2")
    assert (tmp_path / "current").is_symlink() and contents(tmp_path / "v1") == {"a": "2", "b": "2"}


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OutputError, match="cannot write"):
        check_writable(tmp_path / "a")
    with pytest.raises(OutputError, match="cannot write"):
        write(tmp_path / "a", "1")
    assert (tmp_path / "a").is_symlink()


@pytest.mark.usefixtures("umask")
def test_modes(tmp_path: Path) -> None:
    write(tmp_path / "new", "1")
    assert mode(tmp_path / "new") == 0o640
    for old in (0o600, 0o640, 0o664):
        (tmp_path / "new").chmod(old)
        write(tmp_path / "new", "2")
        assert mode(tmp_path / "new") == old


@pytest.mark.usefixtures("umask")
def test_a_private_temporary_file_becomes_one_as_any(tmp_path: Path) -> None:
    for name in ("a", "mode"):
        with writing(tmp_path / name) as temporary:
            temporary.write_text("1")
            temporary.chmod(0o600)
        assert mode(tmp_path / name) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone gives files away")
def test_the_owner_stays(tmp_path: Path) -> None:
    write(tmp_path / "a", "1")
    os.chown(tmp_path / "a", 12345, 54321)
    write(tmp_path / "a", "2")
    assert ((tmp_path / "a").stat().st_uid, (tmp_path / "a").stat().st_gid) == (12345, 54321)


def test_a_device_is_written_to(tmp_path: Path) -> None:
    """Never replaced: root could."""
    before = os.stat(os.devnull)
    (tmp_path / "a.png").symlink_to(os.devnull)
    check_writable(tmp_path / "a.png")
    write(tmp_path / "a.png", "1")
    assert os.path.samestat(os.stat(os.devnull), before) and (tmp_path / "a.png").is_symlink()


IN_A_NAMESPACE = """
import os, sys
from pathlib import Path
from speech2image.files import check_writable, writing
for path, text in (("file", "2"), ("closed/file", "2")):
    check_writable(path)
    with writing(path) as temporary:
        temporary.write_text(text)
for path in ("folder", "closed/folder"):
    check_writable(path)
    with writing(path) as temporary:
        (temporary / "inner").mkdir(parents=True)
        (temporary / "inner" / "b").write_text("2")
"""


def test_mounts_and_read_only_folders(tmp_path: Path) -> None:
    """A file and a folder mounted, and a file and a folder that alone may be written of a read-only mount."""
    for path in ("file", "real/file", "closed/file", "source/file"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("1")
    for path in ("folder", "real/folder", "closed/folder", "source/folder"):
        (tmp_path / path).mkdir()
        (tmp_path / path / "a").write_text("1")
    mounts = "mount --bind real/file file && mount --bind real/folder folder"
    mounts += " && mount --bind closed closed && mount -o remount,ro,bind closed"
    mounts += " && mount --bind source/file closed/file && mount --bind source/folder closed/folder"
    script = f"cd {tmp_path} && {mounts} || exit 77; exec {sys.executable} -c '{IN_A_NAMESPACE}'"
    environment = os.environ | {"PYTHONPATH": str(Path(files.__file__).parents[1])}
    try:
        done = subprocess.run(
            ["unshare", "-rm", "sh", "-c", script], env=environment, capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"nothing can be mounted here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    for place in ("real", "source"):
        assert (tmp_path / place / "file").read_text() == "2"
        assert [path.name for path in (tmp_path / place / "folder").iterdir()] == ["inner"]
        assert contents(tmp_path / place / "folder" / "inner") == {"b": "2"}


AS_ANOTHER = """
import fcntl, os
from speech2image.files import check_writable, writing
from speech2image.errors import OutputError
os.setuid(12345)
check_writable("closed/open")
with writing("closed/open") as temporary:
    temporary.write_text("2")
for path in ("closed/shut", "closed/new", "closed"):
    try:
        check_writable(path)
    except OutputError as error:
        print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone becomes somebody else")
def test_a_file_that_may_be_written_in_a_folder_that_may_not(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    for name, own in (("open", 0o666), ("shut", 0o644)):
        (tmp_path / "closed" / name).write_text("1")
        (tmp_path / "closed" / name).chmod(own)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    environment = os.environ | {"PYTHONPATH": str(Path(files.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", AS_ANOTHER],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Permission denied") == 3
    assert contents(tmp_path / "closed") == {"open": "2", "shut": "1"}


@pytest.mark.parametrize("name", ["a" * 256, "桜" * 86, "a\0b", "a" * 5000, "\ud800"])
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    for path in (tmp_path / name, tmp_path / name / "a.png"):
        with pytest.raises(OutputError, match="cannot write"):
            check_writable(path)
        with pytest.raises(OutputError, match="cannot write"):
            write(path, "1")
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_is_and_the_other_way_round(tmp_path: Path) -> None:
    write_folder(tmp_path / "f", "1")
    write(tmp_path / "a", "1")
    with pytest.raises(OutputError):
        write(tmp_path / "f", "2")
    with pytest.raises(OutputError):
        write_folder(tmp_path / "a", "2")
    assert contents(tmp_path / "f") == {"a": "1", "b": "1"} and (tmp_path / "a").read_text() == "1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "f"]


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch) -> None:
    """There what others left stays, for nobody can tell whether they live."""

    def no_locks(folder: Path) -> int:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files, "_lock", no_locks)
    left = tmp_path / ".0123456789abcdef.speech2image"
    left.mkdir()
    write(tmp_path / "a", "1")
    assert sorted(path.name for path in tmp_path.iterdir()) == [left.name, "a"]
