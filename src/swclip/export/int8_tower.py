"""The image side with 8-bit weights: a smaller, faster file, and embeddings that are a little off.

Weights of matrix products are kept as integers, a scale a column; activations become integers as they come, with a
scale of each batch (dynamic quantisation: nothing has to be fitted on photographs). So an embedding depends a little
on what else is in its batch. Convolutions stay as they are: as integers they are slower on a CPU.
"""

from __future__ import annotations

from pathlib import Path

from swclip.errors import ConfigError
from swclip.export.graph import Signature

IMAGE_INT8 = Signature("image.int8.onnx", "pixels", "image_embedding")
_PRODUCTS = ("MatMul", "Gemm")


def quantize_tower(source: Path, target: Path) -> float:
    """Write a graph again with 8-bit weights.

    Args:
        source: The graph in float32.
        target: Where the other goes.

    Returns:
        Share of the bytes of the weights that became integers.

    Raises:
        ConfigError: The graph holds no matrix product with weights.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quant_pre_process, quantize_dynamic

    weights = _product_weights(onnx.load(source, load_external_data=False))
    whole = sum(weights.values())
    products = sum(size for name, size in weights.items() if name.startswith("product:"))
    if not products:
        raise ConfigError("--int8-tower: this image side has no matrix product whose weights could be 8-bit.")
    large = Path(f"{source}.data").exists()
    prepared = target.with_suffix(".prepared.onnx")
    try:
        quant_pre_process(
            source, prepared, skip_optimization=True, skip_symbolic_shape=True, save_as_external_data=large
        )
        # A scale a column: with one a matrix the mean cosine to the float embeddings was 0.981, not 0.992.
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
    return products / whole


def _product_weights(model: object) -> dict[str, int]:
    """Bytes of each array of weights, those that a matrix product multiplies with under `product:`."""
    from math import prod

    graph = model.graph  # type: ignore[attr-defined]
    multiplied = {node.input[1] for node in graph.node if node.op_type in _PRODUCTS}
    return {
        f"{'product' if array.name in multiplied else 'other'}:{array.name}": 4 * prod(array.dims)
        for array in graph.initializer
        if array.data_type == 1  # float32
    }
