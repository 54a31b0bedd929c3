//! Harness of the end-to-end tests: starts the real program, drives browsers and encoders.
#![forbid(unsafe_code)]

pub mod baseline;
pub mod browser;
pub mod clip;
pub mod encoders;
pub mod gstreamer;
pub mod joining;
pub mod lean_child;
pub mod network;
pub mod offers;
pub mod program;
pub mod punctuality;
pub mod recording;
pub mod source;
pub mod stun;
pub mod tools;
pub mod watching;
