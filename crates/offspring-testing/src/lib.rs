//! Watchdogs and leak checks for the tests of this workspace.
