"""What fell back from a DLA to the GPU is read from the inspector's JSON."""

import json

from hypothesis import given
from hypothesis import strategies as st

from runtime.tensorrt_inspect import LayerPlaces, read_layers


def information(*layers: object) -> str:
    return json.dumps({"Layers": list(layers), "Bindings": ["window", "probability"]})


def layer(name: str, kind: str) -> dict[str, str]:
    return {"Name": name, "LayerType": kind}


def test_layers_of_a_dla_are_told_from_those_of_the_gpu() -> None:
    places = read_layers(
        information(
            layer("window to nvm", "Reformat"),
            layer("{ForeignNode[conv_0...conv_4]}", "DLA"),
            layer("softmax", "SoftMax"),
            layer("{ForeignNode[gather...softmax]}", "Myelin"),
            layer("probability copy finish", "NoOp"),
        )
    )
    assert places.dla == ("{ForeignNode[conv_0...conv_4]}",)
    assert places.gpu == ("softmax", "{ForeignNode[gather...softmax]}")
    assert len(places.copies) == 2
    assert places.report == (
        "2 of 3 layers on the GPU: softmax, {ForeignNode[gather...softmax]}"
    )  # fmt: skip


def test_model_that_is_all_on_the_dla_has_nothing_to_report() -> None:
    assert read_layers(information(layer("{ForeignNode[a...z]}", "DLA"))).report == ""


def test_layer_that_is_only_a_name_is_taken_for_the_gpus() -> None:
    assert read_layers(information("conv_0 + relu_1")).gpu == ("conv_0 + relu_1",)


def test_long_reports_are_cut() -> None:
    places = LayerPlaces((), tuple(f"layer{index}" for index in range(20)), ())
    assert places.report.endswith("layer7, …")


@given(text=st.text() | st.builds(json.dumps, st.recursive(st.none() | st.text(), st.lists)))
def test_anything_else_has_no_layers(text: str) -> None:
    assert isinstance(read_layers(text), LayerPlaces)
