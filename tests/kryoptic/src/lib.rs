//! Empty: this package exists for the shared library that its dependency `kryoptic` builds.
