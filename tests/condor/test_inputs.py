"""Files that a submit description names: found missing before a submit, never by mistake; read by HTCondor's own library, without a pool."""

from pathlib import Path

import pytest

from af_hub.condor.inputs import missing_files

HERE = ("job.sh", "a.txt", "in_0.txt", "in_1.txt", "data/1.csv", "sub/b.txt")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where somebody submits from."""
    for name in HERE:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "list.txt").write_text("1\n2\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "lines, queue, missing",
    [
        pytest.param("transfer_input_files = a.txt, data, https://h.test/x", "", [], id="all there"),
        pytest.param("executable = none.sh", "", ["none.sh"], id="executable"),
        pytest.param("EXECUTABLE = none.sh\ntransfer_executable = False", "", [], id="executable of the worker node"),
        pytest.param("executable = /none/sh", "", ["/none/sh"], id="absolute"),
        pytest.param("executable = none.sh\ncontainer_image = x.sif", "", [], id="executable in a container"),
        pytest.param("Transfer_Input_Files = a.txt, b.txt ,c.txt,", "2", ["b.txt", "c.txt"], id="input files"),
        pytest.param("input = none.txt", "", ["none.txt"], id="standard input"),
        pytest.param("x = none\ninput = $(x).txt", "", ["none.txt"], id="by a macro"),
        pytest.param("input = in_$(Process).txt", "2", [], id="one for each job"),
        pytest.param("input = in_$(ProcId).txt", "3", ["in_2.txt"], id="one for each job, and one too few"),
        pytest.param("n = 3\ninput = in_$(Process).txt", "$(n)", [], id="as many as are computed"),
        pytest.param("input = data/$(Item).csv", "in (1, 2)", ["data/2.csv"], id="items"),
        pytest.param("input = data/$(n).csv", "2 n from list.txt", ["data/2.csv"], id="items of a file"),
        pytest.param("input = data/$(n).csv", "n in [:1] (1, 2)", [], id="a slice of items"),
        pytest.param("transfer_input_files = $(f)", "f matching files *.txt", [], id="a pattern"),
        pytest.param("input = $Fn(f).csv", "f matching files a.*", ["a.csv"], id="beside those of a pattern"),
        pytest.param("input = $(f)", "f matching files *.none", [], id="a pattern of nothing"),
        pytest.param("transfer_input_files = $Fx(f).csv, no", "f in [:1] (a.b)", ["no"], id="a slice, and a file"),
        pytest.param("input = $(Cluster).txt", "", [], id="by the cluster's number"),
        pytest.param("input = in_$INT(Cluster,%03d).txt", "", [], id="by the cluster's number, formatted"),
        pytest.param("input = $$(Arch).txt", "", [], id="by the worker node"),
        pytest.param("initialdir = sub\ninput = b.txt", "", [], id="beside another folder"),
        pytest.param("initialdir = run$(Cluster)\ninput = b.txt", "", [], id="beside a folder of the cluster"),
        pytest.param("input = none\nshould_transfer_files = NO", "", [], id="nothing is sent"),
    ],
)
def test_what_is_not_there(folder: Path, lines: str, queue: str, missing: list[str]) -> None:
    assert missing_files(f"executable = job.sh\n{lines}\nqueue {queue}\n", folder) == missing


def test_a_list_that_is_not_there(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.txt"):
        missing_files("executable = job.sh\nqueue n from none.txt\n", folder)


def test_many_jobs_are_looked_at_for_a_moment_only(folder: Path) -> None:
    assert missing_files("executable = job.sh\ninput = in_$(Process).txt\nqueue 900000000\n", folder)[0] == "in_2.txt"
