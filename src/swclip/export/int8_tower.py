"""The image encoder with 8-bit weights: a smaller, faster file with slightly different embeddings.

Weights of matrix products are stored as integers with a scale per column. Activations are quantised at run time with a
scale per batch (dynamic quantisation, which needs no calibration photographs), so that an embedding depends slightly on
the rest of its batch. Convolutions are not quantised, because integers are slower there on a CPU.
"""

from __future__ import annotations

from pathlib import Path

from swclip.errors import ConfigError
from swclip.export.graph import Signature

IMAGE_INT8 = Signature("image.int8.onnx", "pixels", "image_embedding")
_PRODUCTS = ("MatMul", "Gemm")


def quantize_tower(source: Path, target: Path) -> float:
    """Quantise the weights of a graph to 8 bits.

    Args:
        source: File of the graph in float32.
        target: File of the quantised graph.

    Returns:
        Share of the bytes of the weights that were quantised.

    Raises:
        ConfigError: The graph has no matrix product with weights.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quant_pre_process, quantize_dynamic

    weights = _product_weights(onnx.load(source, load_external_data=False))
    total = sum(weights.values())
    products = sum(size for name, size in weights.items() if name.startswith("product:"))
    if not products:
        raise ConfigError("--int8-tower: this image encoder has no matrix product whose weights could be 8-bit.")
    large = Path(f"{source}.data").exists()
    prepared = target.with_suffix(".prepared.onnx")
    try:
        quant_pre_process(
            source, prepared, skip_optimization=True, skip_symbolic_shape=True, save_as_external_data=large
        )
        # One scale per column gives a mean cosine to the float embeddings of 0.992; one per matrix gave 0.981.
        quantize_dynamic(
            prepared,
            target,
            op_types_to_quantize=list(_PRODUCTS),
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=large,
        )
    finally:
        for path in target.parent.glob(f"{prepared.name}*"):
            path.unlink()
    return products / total


def _product_weights(model: object) -> dict[str, int]:
    """Return the bytes of each array of weights; names of factors of matrix products start with `product:`."""
    from math import prod

    graph = model.graph  # type: ignore[attr-defined]
    multiplied = {node.input[1] for node in graph.node if node.op_type in _PRODUCTS}
    return {
        f"{'product' if array.name in multiplied else 'other'}:{array.name}": 4 * prod(array.dims)
        for array in graph.initializer
        if array.data_type == 1  # float32
    }
