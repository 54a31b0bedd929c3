//! Viewers of one shard, sans-IO: sequence mapping, fan-out, replay of the current GOP, RTX, RTCP.
#![forbid(unsafe_code)]
