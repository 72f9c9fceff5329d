"""What `import swclip` offers beyond single rooms. It takes objects or paths; the commands call the same functions."""
