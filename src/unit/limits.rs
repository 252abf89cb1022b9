//! How much a person may ask for. Every bound the reader enforces is here, so that
//! nothing in this room allocates or loops without an end, and the supervisor knows
//! what to grant the child that reads.

/// `RLIMIT_AS` for the reader, bytes.
pub const READER_ADDRESS_SPACE: u64 = 256 << 20;
/// `RLIMIT_CPU` for the reader, seconds.
pub const READER_CPU_SECONDS: u64 = 10;
/// Longest message of the reader to the supervisor, bytes.
pub const MESSAGE: usize = 16 << 20;

/// Bytes of one unit file.
pub const FILE_BYTES: u64 = 1 << 20;
/// Bytes of all unit files together; what is left of [`MESSAGE`] is for diagnostics.
pub const TOTAL_BYTES: usize = 8 << 20;
/// Unit files in all directories together.
pub const FILES: usize = 4096;
/// Units in all, instances of templates included.
pub const UNITS: usize = 8192;
/// Values (numbers, strings, lists, tables) of one file.
pub const NODES: usize = 100_000;
/// Values of all files together.
pub const TOTAL_NODES: usize = 500_000;
/// Entries of one list or table.
pub const LIST: usize = 8192;
/// Mounts of one unit, and paths in each of its lists of protected ones.
pub const MOUNTS: usize = 256;
/// Devices of one unit.
pub const DEVICES: usize = 64;
/// Kernel settings of one unit.
pub const SYSCTLS: usize = 64;
/// Bytes of the value of a kernel setting.
pub const SYSCTL: usize = 1024;
/// Profiles of system calls in all.
pub const PROFILES: usize = 64;
/// Names of system calls in one profile.
pub const PROFILE_NAMES: usize = 16384;
/// Rules of one profile.
pub const PROFILE_RULES: usize = 1024;
/// Secrets of one unit.
pub const SECRETS: usize = 64;
/// Bytes of one secret.
pub const SECRET_BYTES: usize = 512 << 10;
/// Bytes of one string.
pub const STRING: usize = 64 << 10;
/// Bytes of strings in all instances of templates together.
pub const INSTANCE_BYTES: usize = 4 << 20;
/// Bytes of a regular expression.
pub const REGEX: usize = 1024;
/// Bytes of a regular expression once it is compiled.
pub const REGEX_SIZE: usize = 128 << 10;
/// Bytes of a unit's name.
pub const NAME: usize = 64;
/// Diagnostics that are kept; the rest is only counted.
pub const DIAGNOSTICS: usize = 100;
/// Bytes of a file of which all syntax errors are looked for, not only the first.
pub const RECOVERED: usize = 64 << 10;
/// Syntax errors that are reported for one file.
pub const SYNTAX_ERRORS: usize = 10;
/// Processes and threads that a container has at most if its file says nothing.
pub const DEFAULT_PIDS: u64 = 2048;
