"""Cards in model files, and files that are not what they say."""

import base64
import shutil
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit import flatbuffer_reader, protobuf_reader
from edgekit.artifact import (
    onnx_external_data,
    open_artifact,
    read_card,
    sha256_file,
    sha256_model,
    size_bytes,
    write_card,
)
from edgekit.errors import LimitError, ModelError, UsageError
from edgekit.model_metadata import encode_card
from edgekit.types import (
    Card,
    Format,
    InputSpec,
    Quality,
    QuantizedTensor,
    SelfTest,
    Signature,
    Step,
    Task,
    TensorSpec,
)

CARD = Card(
    name="tiny — ünïcode",
    family="cnn",
    task=Task("classification", ("cat", "dog"), "accuracy"),
    signature=Signature((TensorSpec("x", "float32", ("batch", 3)),), (TensorSpec("y", "float32", (1, 3)),)),
    contract={"x": InputSpec("image", "NCHW", (32, 32), 3, 1 / 255, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))},
    config={"family": "cnn", "builder": {"width": 16}},
    steps=(Step("export", {"opset": 18}, {"torch": "2.13.0"}),),
    source_sha256="ab" * 32,
    quality=(Quality("accuracy", 0.875, "cifar10@test", 10000, "torch", "cpu"),),
    selftest=SelfTest(3, {"y": (1.0, -2.5)}, 1e-4),
    quantized_io={"x": QuantizedTensor("int8", 0.05, -3)},
    account={"operators": 3, "left_float": [{"operator": "Softmax", "name": "s", "reason": "no kernel"}]},
    parent={"sha256": "cd" * 32, "bytes": 900, "quality": None, "time": {"ratio_p50": 0.5, "ci95": [0.4, 0.6]}},
    notes=("left in float: Softmax",),
    stateful=False,
)


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory):
    import onnx
    from onnx import TensorProto, helper

    weight = helper.make_tensor("w", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [weight],
    )
    path = tmp_path_factory.mktemp("onnx") / "a.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {"author": "somebody"})
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def tflite_file(tmp_path_factory):
    """y = x + 1, written with the schema classes: no converter is needed."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def tensor(name, buffer):
        t = schema.TensorT()
        t.name, t.shape, t.type, t.buffer = name, [1, 3], schema.TensorType.FLOAT32, buffer
        return t

    model, graph, op, code = schema.ModelT(), schema.SubGraphT(), schema.OperatorT(), schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ADD
    op.inputs, op.outputs, op.builtinOptionsType = [0, 1], [2], schema.BuiltinOptions.AddOptions
    op.builtinOptions = schema.AddOptionsT()
    graph.tensors, graph.inputs, graph.outputs = [tensor("x", 0), tensor("one", 1), tensor("y", 0)], [0], [2]
    graph.operators = [op]
    empty, ones = schema.BufferT(), schema.BufferT()
    ones.data = np.frombuffer(np.ones(3, np.float32).tobytes(), np.uint8)
    model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [graph], [code], [empty, ones]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path_factory.mktemp("tflite") / "a.tflite"
    path.write_bytes(bytes(builder.Output()))
    return path


@pytest.fixture(scope="session")
def pt2_file(tmp_path_factory):
    import torch

    path = tmp_path_factory.mktemp("pt2") / "a.pt2"
    torch.export.save(torch.export.export(torch.nn.Linear(3, 2), (torch.ones(1, 3),)), path)
    return path


@pytest.fixture(params=["onnx_file", "tflite_file", "pt2_file"])
def model_file(request, tmp_path):
    source = request.getfixturevalue(request.param)
    return Path(shutil.copy(source, tmp_path / source.name))


def run_onnx(path):
    import onnxruntime

    return onnxruntime.InferenceSession(path).run(None, {"x": np.float32([[1, 2, 3]])})[0]


def run_tflite(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.float32([[1, 2, 3]]))
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_a_file_made_elsewhere_has_no_card(model_file):
    artifact = open_artifact(model_file)
    assert artifact.card is None
    assert artifact.format is Format(model_file.suffix[1:])


def test_the_card_survives_and_can_be_replaced(model_file, tmp_path):
    write_card(model_file, CARD)
    moved = tmp_path / "elsewhere" / f"copy{model_file.suffix}"
    moved.parent.mkdir()
    shutil.copy(model_file, moved)
    assert read_card(moved) == CARD
    size = moved.stat().st_size
    shorter = CARD.with_step(Step("again"), "a note")
    write_card(moved, shorter)
    assert read_card(moved) == shorter
    write_card(moved, CARD)
    assert read_card(moved) == CARD
    assert moved.stat().st_size == size  # replacing leaves nothing of the old card behind


def test_a_limit_names_the_file(model_file, tmp_path, monkeypatch):
    """Of several files on a command line the message says which one is too large."""
    path = write_card(model_file, CARD, tmp_path / f"carded{model_file.suffix}").path
    monkeypatch.setenv("EDGEKIT_LIMIT_CARD_BYTES", "10")
    with pytest.raises(LimitError, match=rf"carded\{path.suffix}: the .*EDGEKIT_LIMIT_CARD_BYTES"):
        read_card(path)


def test_models_still_run_with_a_card(onnx_file, tflite_file, tmp_path):
    write_card(onnx_file, CARD, tmp_path / "b.onnx")
    write_card(tflite_file, CARD, tmp_path / "b.tflite")
    np.testing.assert_array_equal(run_onnx(tmp_path / "b.onnx"), run_onnx(onnx_file))
    np.testing.assert_array_equal(run_tflite(tmp_path / "b.tflite"), [[2, 3, 4]])


def test_onnx_with_a_card_is_still_valid_and_keeps_other_metadata(onnx_file, tmp_path):
    import onnx

    write_card(onnx_file, CARD, tmp_path / "b.onnx")
    model = onnx.load(tmp_path / "b.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {p.key for p in model.metadata_props} == {"author", "edgekit"}


def test_tflite_with_a_card_reads_back_by_the_schema_and_undoes_to_the_same_bytes(tflite_file, tmp_path):
    from ai_edge_litert import schema_py_generated as schema

    write_card(tflite_file, CARD, tmp_path / "b.tflite")
    data = (tmp_path / "b.tflite").read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    assert [m.name for m in model.metadata] == [b"edgekit", b"TFLITE_METADATA"]
    for entry in model.metadata:
        assert bytes(model.buffers[entry.buffer].data) == flatbuffer_reader.metadata(data)[entry.name.decode()]
    assert model.version == 3
    assert flatbuffer_reader.without_prefix(data) == tflite_file.read_bytes()


BEFORE_A_TAIL = (
    "c-qrpU|<Mw^D$0MNl(qrEMYhR<Vygt2!jd(3j+rO517rsAOoeDf%pR>1H%&r2oQkM5>Of>e*}nE0I>!T1C@f!0GR|bj{~Zf35eN%JQlDV#C&!jhPeY7faI%{"
    "5|ykJ3~L#10zRPo1c0`HRI>ni5VzR?u>&K-T})6n@qpDsY-a<jhKV)U!|<Db|Nk>W&ESEX%mP*i5(@x@8xTi8{U`!=0|QtsH<BBGfE%XI<v+w+CMafr>W7IjB8"
    "6iH5Su{Vw*jb+1L{tYno1<~%wTZ=XgEXM$b%I2Ao={fR5bOFkYa$UM>e|x&1^=fJPQ~yFaQ85k0R{"
)
"""``tflite_file`` with the card ``{"a": 1}`` as files had it before labels lay behind the model, packed."""


def test_the_card_of_an_older_file_is_read_and_replaced(tflite_file, tmp_path):
    old = zlib.decompress(base64.b85decode(BEFORE_A_TAIL))
    assert flatbuffer_reader.metadata(old) == {"edgekit": b'{"a": 1}'}
    assert flatbuffer_reader.without_prefix(old) == tflite_file.read_bytes()
    (tmp_path / "old.tflite").write_bytes(flatbuffer_reader.with_metadata(old, {"edgekit": encode_card(CARD)}))
    assert read_card(tmp_path / "old.tflite") == CARD


def test_constant_buffers_keep_their_alignment(tflite_file, tmp_path):
    from ai_edge_litert import schema_py_generated as schema

    def places(data):
        model = schema.Model.GetRootAs(data, 0)
        ones = np.float32([1, 1, 1]).tobytes()
        assert model.Buffers(1).DataAsNumpy().tobytes() == ones
        return data.index(ones) % 64

    write_card(tflite_file, CARD, tmp_path / "b.tflite")
    assert places((tmp_path / "b.tflite").read_bytes()) == places(tflite_file.read_bytes())


def test_cutting_a_file_anywhere_is_noticed(onnx_file, tflite_file, tmp_path):
    for source in (onnx_file, tflite_file):
        write_card(source, CARD, tmp_path / f"whole{source.suffix}")
        data = (tmp_path / f"whole{source.suffix}").read_bytes()
        cut = tmp_path / f"cut{source.suffix}"
        for size in [0, 1, 4, 8, len(data) // 4, len(data) // 2, len(data) * 9 // 10]:
            cut.write_bytes(data[:size])
            with pytest.raises(ModelError):
                open_artifact(cut)


@pytest.mark.parametrize("suffix", [".onnx", ".tflite", ".pt2"])
def test_random_bytes_are_refused(suffix, tmp_path):
    path = tmp_path / f"noise{suffix}"
    for seed in range(20):
        path.write_bytes(np.random.default_rng(seed).bytes(5000))
        with pytest.raises(ModelError):
            open_artifact(path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.onnx", "does not exist"),
        ("empty.onnx", "is empty"),
        ("model.pt", "is a pickle"),
        ("model.h5", "has the suffix"),
        ("folder.onnx", "is a folder"),
    ],
)
def test_messages_say_what_is_wrong(name, words, tmp_path):
    path = tmp_path / name
    if name.startswith("folder"):
        path.mkdir()
    elif name.startswith("empty"):
        path.touch()
    elif not name.startswith("missing"):
        path.write_bytes(b"abc")
    with pytest.raises(ModelError, match=words):
        open_artifact(path)


def test_another_format_under_the_suffix_is_named(onnx_file, tmp_path):
    wrong = Path(shutil.copy(onnx_file, tmp_path / "a.tflite"))
    with pytest.raises(ModelError, match=r"named \.tflite but holds an ONNX model"):
        open_artifact(wrong)


def test_a_pickle_under_a_good_suffix_is_refused(tmp_path):
    import pickle

    (tmp_path / "a.onnx").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ModelError, match="pickle"):
        open_artifact(tmp_path / "a.onnx")


def test_a_card_that_is_not_a_card_is_refused(onnx_file, tmp_path):
    for payload in (b"{", b"[]", b'{"schema":"other/1"}', b'{"schema":"edgekit.card/1","name":"x"}'):
        bad = tmp_path / "bad.onnx"
        bad.write_bytes(protobuf_reader.with_metadata(onnx_file.read_bytes(), "edgekit", payload))
        with pytest.raises(ModelError, match="card"):
            open_artifact(bad)


@pytest.mark.parametrize("pixels", [(0, 0), (8, -8)])
def test_images_of_no_pixels_are_refused(onnx_file, tmp_path, pixels):
    rule = InputSpec("image", "NCHW", (32, 32), 3, params={"resize": pixels})
    path = write_card(onnx_file, replace(CARD, contract={"x": rule}), tmp_path / "a.onnx").path
    with pytest.raises(ModelError, match="a size of 0 pixels"):
        open_artifact(path)


def test_external_data_is_listed(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    weight = helper.make_tensor("w", TensorProto.FLOAT, [1], b"\0" * 4, raw=True)
    weight.data_location = TensorProto.EXTERNAL
    weight.ClearField("raw_data")
    entry = weight.external_data.add()
    entry.key, entry.value = "location", "../outside.bin"
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [], [weight])
    (tmp_path / "e.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    assert onnx_external_data(tmp_path / "e.onnx") == ["../outside.bin"]
    assert onnx.load(tmp_path / "e.onnx", load_external_data=False).graph.initializer[0].name == "w"


def test_the_ground_needs_nothing_but_numpy():
    """On a board: no onnx, torch, flatbuffers, click or rich."""
    code = (
        "import sys\n"
        "blocked = ('onnx', 'torch', 'flatbuffers', 'ai_edge_litert', 'click', 'rich', 'google')\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in blocked: raise ImportError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "import edgekit.artifact, edgekit.types, edgekit.errors, edgekit.registry\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr == ""


def test_an_onnx_file_and_its_weights_are_one_model(tmp_path):
    """What a user ships is both: its bytes, a hash that changes with either, and no card written to another folder."""
    import onnx
    from onnx import helper, numpy_helper

    weight = numpy_helper.from_array(np.arange(512, dtype=np.float32), "w")
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [], [weight])
    model, part = tmp_path / "m.onnx", tmp_path / "m.bin"
    onnx.save(helper.make_model(graph), str(model), save_as_external_data=True, location="m.bin", size_threshold=0)
    assert size_bytes(model) == model.stat().st_size + 2048
    before = sha256_model(model)
    assert before != sha256_file(model)
    part.write_bytes(part.read_bytes()[:-1] + b"\1")
    assert sha256_model(model) != before
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(UsageError, match=r"keeps its weights in m\.bin beside it"):
        write_card(model, CARD, tmp_path / "elsewhere" / "m.onnx")
    assert write_card(model, CARD, tmp_path / "other.onnx").card == CARD
    part.unlink()
    with pytest.raises(ModelError, match="no such file is there"):
        size_bytes(model)


def test_a_model_in_one_file_has_the_hash_of_its_file(onnx_file):
    assert sha256_model(onnx_file) == sha256_file(onnx_file)
    assert size_bytes(onnx_file) == onnx_file.stat().st_size
