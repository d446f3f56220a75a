//! The `dewar` binary: everything is in the library.

fn main() -> std::process::ExitCode {
    dewar::cli::main()
}
