"""Answers to "where was this taken?": the record, its forms as text and tables, and the journal of a long run."""
