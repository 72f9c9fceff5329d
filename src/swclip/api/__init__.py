"""What `import swclip` offers beyond single rooms: each function takes objects or their paths; the commands call it too."""
