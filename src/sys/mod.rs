//! Thin safe wrappers over the kernel. The only `unsafe` of the project.
#![allow(unsafe_code)]
