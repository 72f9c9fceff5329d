"""What `import swclip` offers beyond single rooms. Functions take objects or their paths; the commands call them too."""
