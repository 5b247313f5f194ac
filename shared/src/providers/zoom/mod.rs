//! Zoom.

pub mod webhook;
