//! Sans-IO publisher peer: str0m in RTP mode turned into tree packets. Knows no socket and no HTTP.
#![forbid(unsafe_code)]
