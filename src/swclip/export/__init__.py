"""Models and embeddings in files that are read without swclip: ONNX and safetensors."""
