"""The project directory is found by its marks, keeps itself out of git, and has one secret."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nbflow.errors import NbflowError
from nbflow.local.project import Project, find_project, write_privately


@pytest.mark.parametrize("mark", [".nbflow", ".git", "pyproject.toml"])
def test_the_nearest_marked_folder_upwards_is_the_project(tmp_path: Path, mark: str) -> None:
    (tmp_path / ".git").mkdir()
    near = tmp_path / "near"
    deep = near / "a" / "b"
    deep.mkdir(parents=True)
    (near / mark).touch()
    assert find_project(deep) == Project(near)


def test_without_a_mark_the_folder_itself_is_the_project(tmp_path: Path) -> None:
    assert find_project(tmp_path) == Project(tmp_path.resolve())


def test_the_folder_ignores_itself(tmp_path: Path) -> None:
    folder = Project(tmp_path).make_folder()
    assert (folder / ".gitignore").read_text().splitlines()[-1] == "*"
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_project_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / ".nbflow").write_text("a file in the way")
    with pytest.raises(NbflowError, match=r"\.nbflow cannot be made"):
        Project(tmp_path).make_folder()


def test_the_secret_is_private_and_stays(tmp_path: Path) -> None:
    secret = Project(tmp_path).secret()
    path = tmp_path / ".nbflow" / "secret"
    assert len(secret) == 64
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    assert Project(tmp_path).secret() == secret
    assert path.stat().st_mode & 0o777 == 0o600


def test_all_who_make_the_secret_at_once_get_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        secrets = set(pool.map(lambda _: Project(tmp_path).secret(), range(64)))
    assert len(secrets) == 1
    assert sorted(path.name for path in (tmp_path / ".nbflow").iterdir()) == [".gitignore", "secret"]


def test_a_private_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "record"
    write_privately(path, "old")
    write_privately(path, "new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [path]
