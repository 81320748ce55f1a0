//! The programs of this package are its examples; this library is empty.
