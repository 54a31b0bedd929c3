//! Harness of the end-to-end tests: starts the real program, drives browsers and encoders.
#![forbid(unsafe_code)]

pub mod baseline;
pub mod browser;
pub mod clip;
pub mod collector;
pub mod crowd;
pub mod docker;
pub mod encoders;
pub mod event_stream;
pub mod fake_controller;
pub mod far;
pub mod front_door;
pub mod gstreamer;
pub mod heap;
pub mod hop;
pub mod installation;
pub mod joining;
pub mod lean_child;
pub mod load_run;
pub mod network;
pub mod offers;
pub mod operator;
pub mod other_site;
pub mod program;
pub mod prometheus;
pub mod punctuality;
pub mod recording;
pub mod redis;
pub mod screening;
pub mod slack;
pub mod source;
pub mod stun;
pub mod supervised;
pub mod tools;
pub mod udp_way;
pub mod watching;
