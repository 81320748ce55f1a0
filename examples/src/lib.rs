//! The programs of this package are its examples; the library is empty.
