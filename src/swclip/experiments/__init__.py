"""Whole experiments from one file: areas of a street-imagery service, splits, systems, and what came of them."""
