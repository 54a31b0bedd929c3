//! Sealed session records and the file that holds them. Knows bytes and slots, not what a session does with them.
#![forbid(unsafe_code)]
