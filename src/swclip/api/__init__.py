"""High-level functions of `import swclip`. They take objects or paths, and the commands call them too."""
