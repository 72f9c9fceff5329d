"""Export of models and embeddings to files that do not need swclip: ONNX and safetensors."""
