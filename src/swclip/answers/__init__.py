"""Answers to "where was this taken?": the record, its text and table formats, and the journal of a long run."""
