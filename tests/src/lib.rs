//! Harness of the end-to-end tests: starts the real program, drives browsers and encoders.
