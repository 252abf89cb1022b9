//! Output of services: the logger process, the files' format, reading and following them.
