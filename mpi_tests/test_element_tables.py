"""Element tables on several ranks: the same model, or the same error on every rank."""

import numpy as np
import pytest
from builders import K0, M0, chain, chain_dofs, dense
from mpi4py import MPI
from petsc4py import PETSc
from study_files import N, P, chain_mesh, chain_pencil, changed_table, write_chain

import geneig_adjoint as ga
from geneig_adjoint.io import check_elements, gathered, read_elements, write_elements
from geneig_adjoint.parameters import local_values, release

pytestmark = pytest.mark.any_scalars


@pytest.fixture
def folder(comm, tmp_path):
    """A folder all ranks share."""
    return comm.bcast(tmp_path)


@pytest.fixture(autouse=True)
def unprobed(monkeypatch):
    """No other processes: tests/test_element_report.py looks at them."""
    monkeypatch.setattr("geneig_adjoint.io.hdf5_probe._is_unprotected", lambda path: False)


def on_root(comm, write, *arguments, **options):
    """Write a file on rank 0, before any rank goes on."""
    found = write(*arguments, **options) if comm.rank == 0 else None
    return comm.bcast(found)


def test_element_table_gives_the_matrices_it_was_written_from(comm, folder):
    path = on_root(comm, write_chain, folder / "elements.h5")
    model, p, mesh = read_elements(path, comm)
    with model, model.assemble(p) as pencil, chain(N, comm).assemble(P) as original:
        # The elements are added up in another order: a few roundings.
        for mat, other, reference in zip(
            (pencil.A, pencil.B), (original.A, original.B), chain_pencil(P), strict=True
        ):
            np.testing.assert_allclose(dense(mat), dense(other), rtol=1e-15, atol=1e-15)
            np.testing.assert_allclose(dense(mat), reference, rtol=1e-15, atol=1e-15)
    assert mesh is None


@pytest.mark.parametrize("distributed", [False, True])
def test_parameters_are_replicated_or_distributed(comm, folder, distributed):
    path = on_root(comm, write_chain, folder / "elements.h5")
    model, p, _ = read_elements(path, comm, distributed=distributed)
    kind = {False: np.ndarray, True: PETSc.Vec}[distributed]
    assert {name: type(part) for name, part in p.items()} == {"k": kind, "m": kind}
    for name, part in p.items():
        whole = np.concatenate(comm.allgather(local_values(part)))
        np.testing.assert_array_equal(whole[: N + 1], P[name])
    with model, model.assemble(p) as pencil:
        np.testing.assert_allclose(dense(pencil.A), chain_pencil(P)[0], rtol=1e-15, atol=1e-15)
    release(p)


def test_mesh_is_on_rank_0_alone(comm, folder):
    path = on_root(comm, write_chain, folder / "elements.h5", chain_mesh())
    mesh = read_elements(path, comm)[2]
    assert comm.allgather(mesh is not None) == [True] + [False] * (comm.size - 1)


def shuffled_table(path, count):
    """Write a long chain with its elements in random order, a matrix of its own for each."""
    order = np.random.default_rng(0).permutation(count + 1)
    matrices = (1.0 + order)[:, None, None] * K0
    dofs = chain_dofs(count)[order]
    blocks = [
        ga.ElementBlock("A", dofs, ga.ScaledKernel(matrices), {"k": order}),
        ga.ElementBlock("B", dofs, ga.ScaledKernel(M0), {"k": order}),
    ]
    write_elements(path, count, blocks, {"k": np.full(count + 1, 2.0)})
    return path


def test_elements_go_to_the_owners_of_their_rows(comm, folder, monkeypatch):
    monkeypatch.setattr("geneig_adjoint.io.elements.PIECE", 40)  # ten elements
    path = on_root(comm, shuffled_table, folder / "elements.h5", 200)
    model, _, _ = read_elements(path, comm)
    first, second = model.blocks
    np.testing.assert_array_equal(first.dofs, second.dofs)  # one mesh: gathered once
    counts = comm.allgather(len(first.dofs))
    assert sum(counts) == 201
    assert max(counts) - min(counts) <= 3  # shared out at ends of intervals
    own = (first.dofs >= model.rows[0]) & (first.dofs < model.rows[1])
    foreign = np.count_nonzero(~own & (first.dofs >= 0))
    assert comm.allreduce(foreign, MPI.MAX) <= 4  # two at each end of this rank's rows
    ids = first.parameters["k"]
    np.testing.assert_array_equal(first.dofs, chain_dofs(200)[ids])
    np.testing.assert_array_equal(first.kernel.base, (1.0 + ids)[:, None, None] * K0)


def remove(name):
    return lambda file: file.pop(name)


def replace(name, value):
    def change(file):
        attributes = dict(file[name].attrs)
        del file[name]
        file[name] = value
        file[name].attrs.update(attributes)

    return change


def attribute(place, **values):
    return lambda file: file[place].attrs.update(values)


def group_for_dofs(file):
    del file["blocks/0/dofs"]
    file.create_group("blocks/0/dofs")


def empty_block(file):
    for name, shape in (("dofs", (0, 2)), ("ids", (0,)), ("matrices", (2, 2))):
        del file[f"blocks/0/{name}"]
        file[f"blocks/0/{name}"] = np.zeros(shape, dtype=float if name == "matrices" else int)


def clear(name):
    def change(file):
        for key in list(file[name]):
            del file[name][key]

    return change


def entry(name, place, value):
    return lambda file: file[name].__setitem__(place, value)


def replace_dofs(old, new):
    def change(file):
        for name in ("blocks/0/dofs", "blocks/1/dofs"):
            dofs = file[name][()]
            file[name][()] = np.where(dofs == old, new, dofs)

    return change


def unwritten(file):
    del file["blocks/0/dofs"]
    file.create_dataset("blocks/0/dofs", shape=(10**12, 2), dtype=int, chunks=(1000, 2))


TABLE_ERRORS = {
    "format": (attribute("/", format="something"), r"must have format 'gen.* got 'something'"),
    "no format": (lambda file: file.attrs.pop("format"), r"have an attribute 'format', got none"),
    "version": (attribute("/", version=2), r"version 1, got .* version 2; update geneig_adjoint"),
    "no version": (
        lambda file: file.attrs.pop("version"),
        r"an attribute 'version', got none",
    ),
    "word": (attribute("/", version="one"), r"must have a whole number 'version', got 'one'"),
    "no n": (lambda file: file.attrs.pop("n"), r"elements.h5: / must have an attribute 'n', got n"),
    "n": (attribute("/", n=0), r"must have n >= 1 free dofs, got 0"),
    "fraction": (attribute("/", n=8.5), r"must have a whole number 'n', got .*8.5"),
    "attribute": (
        attribute("/", comment="x"),
        r"attribute of / must be .* got 'comment'",
    ),
    "entry": (lambda f: f.move("blocks", "block"), r"entry of / .* got 'block'; did you mean 'blo"),
    "no blocks": (remove("blocks"), r"/ must have a group 'blocks', got NoneType"),
    "empty": (clear("blocks"), r"/blocks must hold blocks named 0, 1, ..., got 'none'"),
    "no A": (attribute("blocks/0", matrix="B"), r'/blocks must fill A, got none with matrix = "A"'),
    "empty A": (empty_block, r'blocks with matrix = "A" must have elements, got none; add'),
    "no parameters": (remove("parameters"), r"/ must have a group 'parameters', got NoneType"),
    "block names": (lambda f: f.move("blocks/0", "blocks/x"), r"named 0, 1, ..., got 'x'"),
    "group for dofs": (group_for_dofs, r"/blocks/0/dofs must be a dataset, got Group"),
    "scalar dofs": (
        replace("blocks/0/dofs", 3),
        r"with 2 dim.* got int64 of shape \(\)",
    ),
    "real dofs": (replace("blocks/0/dofs", np.ones((9, 2))), r"whole numbers .* got float64 of"),
    "text": (
        replace("blocks/0/matrices", [[b"a"]]),
        r"must be an array of numbers with 2 or",
    ),
    "no ids": (remove("blocks/1/ids"), r"/blocks/1/ids must be a dataset, got NoneType"),
    "ids": (replace("blocks/0/ids", np.arange(4)), r"/blocks/0 must have 9 elements in every"),
    "matrices": (replace("blocks/1/matrices", np.ones((4, 2, 2))), r"must have 9 elements in ev"),
    "matrix size": (replace("blocks/0/matrices", np.ones((3, 3))), r"matrices of 2 x 2 as"),
    "law": (attribute("blocks/0", law="cubic"), r'law "linear" or "power", got .cubic'),
    "no law": (lambda file: file["blocks/0"].attrs.pop("law"), r"/blocks/0 must have an attribute"),
    "exponent": (
        attribute("blocks/0", exponent="two"),
        r"have a number 'exponent', got 'two'",
    ),
    "nan floor": (attribute("blocks/0", floor=np.nan), r"must have a number 'floor', got .*nan"),
    "block attribute": (attribute("blocks/0", exponant=3.0), r"of /blocks/0 .* mean 'exponent'"),
    "law attribute": (attribute("blocks/1", exponent=3.0), r"attribute of /blocks/1 .*'exponent'"),
    "matrix name": (attribute("blocks/1", matrix="K"), r'matrix must be "A" or "B", got .K'),
    "dofs": (replace("blocks/0/dofs", np.full((9, 2), 8)), r"-1 ... 7, got 8 at element 0 of /blo"),
    "late dof": (entry("blocks/1/dofs", 8, -2), r"-1 ... 7, got -2 at element 8 of /blocks/1"),
    "large dof": (
        replace("blocks/0/dofs", np.full((9, 2), 2**64 - 1, dtype=np.uint64)),
        r"dofs must lie in -1 ... 7, got -2 at element 0",
    ),
    "orphan": (replace_dofs(4, 5), r"every dof must belong to an element, got dof 4"),
    "column": (replace("parameters/k", np.ones((9, 1))), r"/parameters/k must be an array of real"),
    "complex": (
        replace("parameters/k", np.ones(9) * 1j),
        r"parameters/k must .* got complex128",
    ),
    "id": (
        replace("blocks/0/ids", np.full(9, -1)),
        r"ids of 'k' must lie in 0 ... 8, .* got -1",
    ),
    "late id": (entry("blocks/1/ids", 7, 9), r"in 0 ... 8, .* has 9 entries, got 9 at element 7"),
    "short": (replace("parameters/k", np.ones(8)), r"0 ... 7, .* 8 entries, got 8 at element 8 of"),
    "nan": (entry("parameters/k", 3, np.nan), r"'k' must be finite, got nan at entry 3"),
    "missing": (remove("parameters/k"), r"/blocks/0 must name one of /parameters \(m\), got 'k'"),
    "unused": (lambda f: f.copy("parameters/k", "parameters/l"), r"got 'l' that none does"),
    "shared matrix": (
        replace("blocks/0/matrices", np.full((2, 2), np.inf)),
        r"matrices must be finite, got NaN or Inf in the one that all elements of /blocks/0",
    ),
    "matrix": (entry("blocks/1/matrices", 5, np.nan), r"NaN or Inf at element 5 of /blocks/1"),
    "unwritten": (unwritten, r"/blocks/0/dofs must be written, got 0 bytes for shape \(1\d+, 2\)"),
}


@pytest.mark.parametrize(("change", "message"), TABLE_ERRORS.values(), ids=TABLE_ERRORS)
def test_damaged_element_table_is_refused_on_every_rank(comm, folder, change, message):
    path = on_root(comm, changed_table, folder / "elements.h5", change)
    with pytest.raises(ga.InputError, match=message):
        read_elements(path, comm)
    with pytest.raises(ga.InputError, match=message):
        check_elements(path)


def put(path, content):
    """Write the content, if there is any."""
    for part in filter(lambda part: part is not None, [content]):
        path.write_bytes(part)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"got FileNotFoundError: No such file or directory; check name and rights"),
        (b"", r"must be an element table, got OSError"),
        (b"some text", r"must be an element table, got OSError"),
    ],
    ids=["missing", "empty", "text"],
)
def test_file_that_is_no_table_is_refused(comm, folder, content, message):
    on_root(comm, put, folder / "x.h5", content)
    with pytest.raises(ga.InputError, match=message):
        read_elements(folder / "x.h5", comm)


def test_truncated_table_is_refused(comm, folder):
    path = on_root(comm, write_chain, folder / "elements.h5")
    on_root(comm, path.write_bytes, path.read_bytes()[:3000] if comm.rank == 0 else b"")
    with pytest.raises(ga.InputError, match="must be an element table, got OSError"):
        read_elements(path, comm)


def test_rows_are_gathered_in_order_on_rank_0_only(comm):
    block = np.full((comm.rank, 2), comm.rank, dtype=float)
    whole = gathered(comm, block)
    expected = np.repeat(np.arange(comm.size), np.arange(comm.size))
    found = comm.bcast(whole)
    np.testing.assert_array_equal(found, np.column_stack([expected, expected]))
    assert (whole is None) == (comm.rank > 0)


@pytest.mark.parametrize("kind", [np.longdouble, np.float16, np.int8, ">f4"])
@pytest.mark.parametrize("number", [0, 1])
def test_matrices_may_be_numbers_of_any_length(comm, folder, kind, number):
    whole = {0: K0, 1: np.tile(6 * M0, (N + 1, 1, 1))}[number]

    def change(file):
        group = file[f"blocks/{number}"]
        del group["matrices"]
        group["matrices"] = np.rint(whole).astype(kind)

    path = on_root(comm, changed_table, folder / "elements.h5", change)
    model, p, _ = read_elements(path, comm)
    with model, model.assemble(p) as pencil:
        found = dense((pencil.A, pencil.B)[number])
    # Entries are small whole numbers times parameters: a few roundings.
    expected = chain_pencil(P)[number] * (1, 6)[number]
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14)
