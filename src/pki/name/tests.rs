//! Names that break programs.
