"""Street-imagery services, and the areas that they are asked for."""
