//! Metrics, log and span set-up. Every metric is declared here once; cores return plain stats.
#![forbid(unsafe_code)]
