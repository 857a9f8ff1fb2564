"""The demo's data: ROOT files that look like NanoAOD, with a dimuon spectrum in which the peaks are where physics has them.

Serves the hop "data": the files lie under the origin's root as ``/store/user/af-hub/dimuon-RECIPE/dimuon-N.root``. Promises: the same recipe
gives the same events on every machine; a file is there whole or not at all; what is there already is not written again, and two who
want the same wait for each other. Leaves serving them to :mod:`af_hub.testing.xrootd` and reading them to the welcome notebook.

A pair of muons comes from a parent: J/psi, psi(2S), one of three Upsilons, a Z boson with its natural width, or a background
that falls with the mass. The parent decays evenly in all directions in its own frame and is boosted; then each muon's momentum
is smeared by about one per cent, as a tracker does it, so that the width of a peak grows with its mass.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from af_hub.errors import Unavailable
from af_hub.testing.debian import locked

if TYPE_CHECKING:
    from numpy.random import Generator

MANIFEST = "dimuon.json"
MUON_MASS = 0.1056583755
Z_WIDTH = 2.4955

# Masses in GeV (Particle Data Group); the share is that of all pairs. What is left over is background.
PARENTS = {
    "J/psi": (3.0969, 0.22),
    "psi(2S)": (3.6861, 0.015),
    "Upsilon(1S)": (9.4604, 0.09),
    "Upsilon(2S)": (10.0234, 0.03),
    "Upsilon(3S)": (10.3551, 0.02),
    "Z": (91.1880, 0.20),
}

Columns = dict[str, NDArray[Any]]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """What decides every number in the files; raise ``version`` when the generator changes."""

    version: int = 1
    seed: int = 20261121
    files: int = 4
    events: int = 75_000
    chunk: int = 15_000

    @property
    def folder(self) -> str:
        """Under the origin's root. Another recipe has another folder: caches take a file at one path for the same for ever."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return f"store/user/af-hub/dimuon-{digest[:8]}"

    @property
    def protected_folder(self) -> str:
        """Where those are that want a token."""
        return "protected" + self.folder.removeprefix("store")

    def names(self) -> list[str]:
        """The names of the files, in order."""
        return [f"dimuon-{index}.root" for index in range(self.files)]


@dataclass(frozen=True)
class Dataset:
    """Files that are there, and where clients find them."""

    root: Path
    recipe: Recipe
    manifest: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Where the files are on disk."""
        return self.root / self.recipe.folder

    @property
    def size(self) -> int:
        """Bytes in all files."""
        return sum(entry["size"] for entry in self.manifest["files"].values())

    def paths(self) -> list[str]:
        """What follows ``root://origin`` in a URL: ``//store/...``."""
        return [f"//{self.recipe.folder}/{name}" for name in self.manifest["files"]]

    def urls(self, origin: str) -> list[str]:
        """Each file at an origin given as ``root://host:port``."""
        return [origin.rstrip("/") + path for path in self.paths()]


# --- decides: events as arrays -------------------------------------------------------------------------------------


def draw_masses(rng: Generator, n: int) -> NDArray[np.float64]:
    """Masses of ``n`` parents, in GeV, before any detector saw them."""
    shares = np.array([share for _, share in PARENTS.values()])
    which = rng.choice(len(PARENTS) + 1, n, p=[*shares, 1 - shares.sum()])
    peaks = np.array([mass for mass, _ in PARENTS.values()])
    # Density of the background as 1/m**1.6 between 1 and 200 GeV: the inverse of its integral, at a uniform number.
    low, high, power = 1.0, 200.0, -0.6
    background = (low**power + rng.random(n) * (high**power - low**power)) ** (1 / power)
    masses = np.append(peaks, 0)[which]
    # The Z by its natural width, a Breit-Wigner between 40 and 200 GeV; again the inverse of the integral.
    first, last = np.arctan((np.array([40, 200]) - peaks[-1]) * 2 / Z_WIDTH)
    breit_wigner = peaks[-1] + Z_WIDTH / 2 * np.tan(first + rng.random(n) * (last - first))
    masses = np.where(which == list(PARENTS).index("Z"), breit_wigner, masses)
    return np.where(which == len(PARENTS), background, masses)


def decay(rng: Generator, mass: NDArray[np.float64]) -> list[tuple[NDArray[np.float64], ...]]:
    """Two muons (pt, eta, phi) for each parent of that mass; parents fly at any angle, heavier ones with more momentum."""
    n = len(mass)
    pt = rng.exponential(6 + 0.12 * mass) + 5 * np.exp(-mass / 20)
    rapidity, phi = rng.uniform(-2, 2, n), rng.uniform(-np.pi, np.pi, n)
    transverse = np.hypot(mass, pt)
    parent = np.stack([pt * np.cos(phi), pt * np.sin(phi), transverse * np.sinh(rapidity)])
    energy = transverse * np.cosh(rapidity)

    momentum = np.sqrt(mass**2 / 4 - MUON_MASS**2)
    cosine, angle = rng.uniform(-1, 1, n), rng.uniform(-np.pi, np.pi, n)
    sine = np.sqrt(1 - cosine**2)
    own = momentum * np.stack([sine * np.cos(angle), sine * np.sin(angle), cosine])
    along = (own * parent).sum(axis=0)
    muons: list[tuple[NDArray[np.float64], ...]] = []
    for sign in (1, -1):
        boosted = sign * own + parent / mass * (sign * along / (energy + mass) + mass / 2)
        transverse_momentum = np.hypot(boosted[0], boosted[1])
        muons.append(
            (transverse_momentum, np.arcsinh(boosted[2] / transverse_momentum), np.arctan2(boosted[1], boosted[0]))
        )
    return muons


def muon_slots(rng: Generator, n: int) -> Columns:
    """Four places for muons in each of ``n`` events: the pair, and two that may be filled by unrelated soft muons."""
    (pt1, eta1, phi1), (pt2, eta2, phi2) = decay(rng, draw_masses(rng, n))
    pt = np.stack([pt1, pt2, *(3 + rng.exponential(4, (2, n)))], axis=1)
    eta = np.stack([eta1, eta2, *rng.uniform(-2.4, 2.4, (2, n))], axis=1)
    phi = np.stack([phi1, phi2, *rng.uniform(-np.pi, np.pi, (2, n))], axis=1)
    pt *= 1 + (0.008 + 0.003 * np.abs(eta)) * rng.standard_normal((n, 4))
    first = rng.integers(0, 2, n) * 2 - 1
    charge = np.stack([first, -first, *(rng.integers(0, 2, (2, n)) * 2 - 1)], axis=1)
    there = np.stack([np.ones((2, n), bool), rng.random((2, n)) < [[0.12], [0.03]]]).reshape(4, n).T
    # What a detector of CMS's shape records: NanoAOD keeps muons above 3 GeV, the chambers end at |eta| = 2.4.
    return {"pt": pt, "eta": eta, "phi": phi, "charge": charge, "there": there & (pt > 3) & (np.abs(eta) < 2.4)}


def muons_in_order(slots: Columns) -> tuple[NDArray[np.int64], Columns]:
    """How many muons each event has, and their flat columns, those of one event by falling pt."""
    order = np.argsort(np.where(slots["there"], -slots["pt"], np.inf), axis=1)
    there = np.take_along_axis(slots["there"], order, axis=1)
    flat = {name: np.take_along_axis(slots[name], order, axis=1)[there] for name in ("pt", "eta", "phi", "charge")}
    return there.sum(axis=1), {name: f4(values) for name, values in flat.items()} | {
        "charge": flat["charge"].astype("i4")
    }


def more_about_muons(rng: Generator, pt: NDArray[Any]) -> Columns:
    """The rest of what NanoAOD says about muons."""
    n = len(pt)
    return {
        "mass": np.full(n, MUON_MASS, "f4"),
        "ptErr": f4(0.01 * pt * (1 + rng.exponential(0.3, n))),
        "dxy": f4(rng.normal(0, 0.003, n)),
        "dz": f4(rng.normal(0, 0.005, n)),
        "ip3d": f4(rng.exponential(0.005, n)),
        "sip3d": f4(rng.exponential(1.2, n)),
        "pfRelIso03_all": f4(rng.exponential(0.08, n)),
        "pfRelIso04_all": f4(rng.exponential(0.1, n)),
        "segmentComp": f4(1 - rng.exponential(0.1, n)),
        "nStations": rng.integers(1, 5, n).astype("i4"),
        "nTrackerLayers": rng.integers(8, 16, n).astype("i4"),
        "looseId": rng.random(n) < 0.98,
        "mediumId": rng.random(n) < 0.94,
        "tightId": rng.random(n) < 0.9,
    }


def jets(rng: Generator, n: int) -> tuple[NDArray[np.int64], Columns]:
    """How many jets each of ``n`` events has, and their flat columns."""
    counts = rng.poisson(3.2, n)
    total = int(counts.sum())
    pt = 15 + rng.exponential(28, total)
    return counts, {
        "pt": f4(pt),
        "eta": f4(rng.normal(0, 1.9, total)),
        "phi": f4(rng.uniform(-np.pi, np.pi, total)),
        "mass": f4(pt * rng.uniform(0.08, 0.2, total)),
        "area": f4(rng.normal(0.5, 0.03, total)),
        "btagDeepFlavB": f4(rng.beta(0.4, 3, total)),
        "chHEF": f4(rng.beta(4, 3, total)),
        "neEmEF": f4(rng.beta(2, 6, total)),
        "nConstituents": rng.poisson(18, total).astype("i4"),
        "jetId": np.where(rng.random(total) < 0.97, 6, 0).astype("i4"),
    }


def whole_events(rng: Generator, first: int, n: int) -> Columns:
    """What an event has once: numbers, vertices, missing energy, triggers; ``first`` is the number of the first event."""
    number = np.arange(first, first + n)
    return {
        "run": np.full(n, 362_760, "u4"),
        "luminosityBlock": (1 + number // 500).astype("u4"),
        "event": number.astype("u8"),
        "PV_npvs": rng.poisson(34, n).astype("i4"),
        "PV_x": f4(rng.normal(0.17, 0.001, n)),
        "PV_y": f4(rng.normal(-0.18, 0.001, n)),
        "PV_z": f4(rng.normal(0, 3.6, n)),
        "MET_pt": f4(rng.rayleigh(18, n)),
        "MET_phi": f4(rng.uniform(-np.pi, np.pi, n)),
        "MET_significance": f4(rng.exponential(1.5, n)),
        "MET_sumEt": f4(rng.normal(1200, 250, n)),
        "fixedGridRhoFastjetAll": f4(rng.normal(26, 6, n)),
        "HLT_DoubleMu4_3_LowMass": rng.random(n) < 0.6,
        "HLT_IsoMu24": rng.random(n) < 0.3,
        "Flag_goodVertices": np.ones(n, bool),
    }


def f4(values: NDArray[Any]) -> NDArray[np.float32]:
    """As NanoAOD stores it: 32-bit."""
    return values.astype(np.float32)


def event_chunks(recipe: Recipe, index: int) -> Iterator[dict[str, Any]]:
    """The events of file ``index``, chunk by chunk, as uproot writes them: flat columns and jagged collections."""
    import awkward as ak

    rng = np.random.default_rng([recipe.seed, recipe.version, index])
    for start in range(0, recipe.events, recipe.chunk):
        n = min(recipe.chunk, recipe.events - start)
        muon_counts, muons = muons_in_order(muon_slots(rng, n))
        muons |= more_about_muons(rng, muons["pt"])
        jet_counts, jet_columns = jets(rng, n)
        yield {
            **whole_events(rng, index * recipe.events + start, n),
            "Muon": ak.unflatten(ak.zip(muons), muon_counts),
            "Jet": ak.unflatten(ak.zip(jet_columns), jet_counts),
        }


# --- acts: files -----------------------------------------------------------------------------------------------------


def write_file(path: Path, chunks: Iterator[dict[str, Any]]) -> None:
    """Write one file beside its place and move it there when it is whole; a cluster of baskets a chunk."""
    import uproot

    partial = path.with_suffix(".partial")
    with uproot.recreate(partial, compression=uproot.LZ4(1)) as file:
        first = next(chunks)
        tree = file.mktree("Events", {name: getattr(data, "type", None) or data.dtype for name, data in first.items()})
        tree.extend(first)
        for chunk in chunks:
            tree.extend(chunk)
    partial.replace(path)


def describe_file(path: Path) -> dict[str, Any]:
    """Size in bytes and adler32, the sum that XRootD sites use."""
    return {"size": path.stat().st_size, "adler32": f"{zlib.adler32(path.read_bytes()):08x}"}


def existing_dataset(root: Path, recipe: Recipe) -> Dataset | None:
    """What an earlier run left, if it is of this recipe, complete and undamaged."""
    folder = root / recipe.folder
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        whole = manifest["recipe"] == asdict(recipe) and all(
            describe_file(folder / name) == entry for name, entry in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Dataset(root, recipe, manifest) if whole else None


def make_dataset(root: Path, recipe: Recipe | None = None, progress: Progress = lambda _: None) -> Dataset:
    """Give the dataset under ``root`` (the origin's root folder), writing it if it is not there.

    Parameters
    ----------
    root
        Folder that the origin exports; the files go to a folder below ``store`` in it.
    progress
        Called with a few words before each file.

    Raises
    ------
    Unavailable
        When the folder cannot be written or the disk is full.
    """
    recipe = recipe or Recipe()
    if found := existing_dataset(root, recipe):
        return found
    folder = root / recipe.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder.parent / f".{folder.name}.lock", progress):
            return existing_dataset(root, recipe) or write_dataset(root, recipe, progress)
    except OSError as error:
        raise Unavailable(
            f"the demo data cannot be written to {folder} ({error.strerror or error}); a folder that can be written is wanted, "
            "with 120 MB free: set XDG_CACHE_HOME to one"
        ) from error


def protect(dataset: Dataset) -> str:
    """Let the first file be also where a token is asked for; returns that path, as what follows ``root://origin`` in a URL."""
    name = dataset.recipe.names()[0]
    file = dataset.root / dataset.recipe.protected_folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    with locked(file.parent / ".lock", lambda _: None):
        if not file.exists() or not file.samefile(dataset.folder / name):
            file.unlink(missing_ok=True)
            file.hardlink_to(dataset.folder / name)
    return f"//{dataset.recipe.protected_folder}/{name}"


def write_dataset(root: Path, recipe: Recipe, progress: Progress) -> Dataset:
    """Write all files, and the manifest last; what was written is taken away when one cannot be."""
    folder = root / recipe.folder
    try:
        (folder / MANIFEST).unlink(missing_ok=True)
        for index, name in enumerate(recipe.names()):
            progress(f"demo data: file {index + 1} of {recipe.files}")
            write_file(folder / name, event_chunks(recipe, index))
        manifest = {"recipe": asdict(recipe), "files": {name: describe_file(folder / name) for name in recipe.names()}}
        partial = folder / (MANIFEST + ".partial")
        partial.write_text(json.dumps(manifest, indent=1) + "\n")
        partial.replace(folder / MANIFEST)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Dataset(root, recipe, manifest)


def main() -> None:
    """``python -m af_hub.demo.data FOLDER``: make the dataset under an origin's root."""
    start = time.monotonic()
    dataset = make_dataset(Path(sys.argv[1]), progress=print)
    print(f"{dataset.size / 1e6:.0f} MB in {dataset.folder} after {time.monotonic() - start:.1f} s")


if __name__ == "__main__":
    main()
