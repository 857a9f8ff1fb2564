"""The demo's data: the same everywhere, whole or not there, and with the right physics."""

import numpy as np
import pytest
import uproot

from af_hub.demo.data import Recipe, event_chunks, make_dataset, muon_slots, muons_in_order
from af_hub.errors import Unavailable

SMALL = Recipe(files=2, events=2000, chunk=1000)


@pytest.fixture(scope="module")
def masses():
    """Masses of the pairs of 200 000 events, from what is stored about each muon."""
    counts, muons = muons_in_order(muon_slots(np.random.default_rng(1), 200_000))
    first = np.concatenate([[0], counts.cumsum()[:-1]])[counts == 2]
    pairs = {name: (values[first].astype("f8"), values[first + 1].astype("f8")) for name, values in muons.items()}
    opposite = pairs["charge"][0] != pairs["charge"][1]
    vectors = []
    for muon in (0, 1):
        pt, eta, phi = (pairs[name][muon][opposite] for name in ("pt", "eta", "phi"))
        energy = np.sqrt((pt * np.cosh(eta)) ** 2 + 0.1056583755**2)
        vectors.append(np.stack([energy, pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)]))
    energy, *momentum = vectors[0] + vectors[1]
    return np.sqrt(energy**2 - sum(part**2 for part in momentum))


@pytest.mark.parametrize(
    "peak, width",
    [
        pytest.param(3.0969, (0.015, 0.045), id="J/psi"),
        pytest.param(9.4604, (0.05, 0.13), id="Upsilon(1S)"),
        pytest.param(91.188, (1.2, 2.6), id="Z"),
    ],
)
def test_peaks_are_where_physics_has_them(masses, peak, width):
    near = masses[np.abs(masses / peak - 1) < 0.03]
    low, middle, high = np.quantile(near, [0.16, 0.5, 0.84])
    beside = masses[np.abs(masses / (peak * 1.25) - 1) < 0.03]

    assert middle == pytest.approx(peak, rel=0.002)
    assert width[0] < (high - low) / 2 < width[1]
    assert len(near) > 4 * len(beside)


def test_the_background_falls(masses):
    counts = [((masses > low) & (masses < 1.3 * low)).sum() / low for low in (1.2, 4.5, 15, 45, 130)]

    assert counts == sorted(counts, reverse=True)


def test_the_detector_has_edges():
    counts, muons = muons_in_order(muon_slots(np.random.default_rng(2), 5000))

    assert counts.sum() == len(muons["pt"])
    assert 0 <= counts.min() < counts.max() <= 4
    assert muons["pt"].min() >= 3
    assert np.abs(muons["eta"]).max() <= 2.4
    assert set(muons["charge"]) == {-1, 1}


@pytest.mark.slow
def test_the_same_recipe_gives_the_same_events(tmp_path):
    for name in ("a", "b"):
        make_dataset(tmp_path / name, SMALL)
    for name in SMALL.names():
        one, two = (uproot.open(tmp_path / side / SMALL.folder / name)["Events"].arrays() for side in ("a", "b"))
        assert one.to_list() == two.to_list()


def test_files_differ_and_so_do_seeds():
    first = [
        next(event_chunks(recipe, index))["Muon"].pt[:50].to_list()
        for recipe, index in [(SMALL, 0), (SMALL, 1), (Recipe(seed=1), 0)]
    ]

    assert first[0] != first[1]
    assert first[0] != first[2]


def test_it_looks_like_nanoaod(tmp_path):
    dataset = make_dataset(tmp_path, SMALL)
    events = uproot.open(dataset.folder / "dimuon-1.root")["Events"]

    assert dataset.urls("root://origin:1094/") == [
        f"root://origin:1094//{SMALL.folder}/dimuon-{n}.root" for n in (0, 1)
    ]
    assert events.num_entries == SMALL.events
    assert {"nMuon", "Muon_pt", "Muon_eta", "Muon_phi", "Muon_mass", "Muon_charge", "nJet", "run", "event"} <= set(
        events.keys()
    )
    assert len(events.keys()) > 35
    assert events["event"].array()[0] == SMALL.events


def test_another_recipe_has_another_path(tmp_path):
    one, other = (make_dataset(tmp_path, Recipe(files=1, events=100, chunk=100, seed=seed)) for seed in (1, 2))

    assert not set(one.paths()) & set(other.paths())
    assert all(path.startswith("//store/user/af-hub/dimuon-") for path in one.paths())


def test_what_is_there_is_not_written_again(tmp_path):
    first = make_dataset(tmp_path, SMALL)
    said = []

    assert make_dataset(tmp_path, SMALL, said.append).manifest == first.manifest
    assert said == []


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda file: file.unlink(), id="a file is gone"),
        pytest.param(lambda file: file.write_bytes(file.read_bytes()[:-1]), id="a file is short"),
        pytest.param(lambda file: file.write_bytes(file.read_bytes()[:-1] + b"\xff"), id="a byte is another"),
        pytest.param(lambda file: (file.parent / "dimuon.json").write_text("{"), id="the manifest is broken"),
        pytest.param(lambda file: (file.parent / "dimuon.json").write_text("[]"), id="the manifest is something else"),
    ],
)
def test_what_is_damaged_is_written_again(tmp_path, harm):
    dataset = make_dataset(tmp_path, SMALL)
    harm(dataset.folder / "dimuon-1.root")
    again = make_dataset(tmp_path, SMALL)

    assert uproot.open(again.folder / "dimuon-1.root")["Events"].num_entries == SMALL.events


def test_no_partial_file_stays(tmp_path):
    assert sorted(path.name for path in make_dataset(tmp_path, SMALL).folder.iterdir()) == [
        "dimuon-0.root",
        "dimuon-1.root",
        "dimuon.json",
    ]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "store").write_text("a file where a folder should be")

    with pytest.raises(Unavailable, match="120 MB free: set XDG_CACHE_HOME"):
        make_dataset(tmp_path, SMALL)
