//! Typed configuration: defaults < file < environment < flags. Knows no socket and no running node.
#![forbid(unsafe_code)]
