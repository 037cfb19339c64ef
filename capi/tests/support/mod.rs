//! Builds and installs the library as a user would, compiles C and C++ against it, and runs what comes of it.
#![allow(dead_code)] // no test needs all of it

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The package's folder.
pub fn capi() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where the library is installed.
pub fn prefix() -> &'static Path {
    static PREFIX: OnceLock<PathBuf> = OnceLock::new();
    PREFIX.get_or_init(|| {
        let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
        // Each test program has one of its own: another may be running from its.
        let prefix = scratch.join("capi").join(env!("CARGO_CRATE_NAME")).join("installed");
        let target = scratch.parent().expect("a folder in the target folder");
        let mut make = Command::new("make");
        make.arg("-C").arg(capi()).arg("install");
        make.args(["PROFILE=dev", "CARGOFLAGS="]).arg(variable("PREFIX", &prefix));
        make.env("CARGO", env!("CARGO")).env("CARGO_TARGET_DIR", target);
        succeed(&mut make);
        prefix
    })
}

fn variable(name: &str, value: &Path) -> String {
    format!("{name}={}", value.display())
}

/// How a program is compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// With the shared library.
    Shared,
    /// With the static library.
    Static,
    /// With the shared library, under AddressSanitizer, LeakSanitizer and UndefinedBehaviorSanitizer.
    Sanitized,
}

/// Compiles a file of the package, C11 or C++17 by its ending, with all warnings as errors.
pub fn compile(source: &str, build: Build) -> PathBuf {
    compile_file(&capi().join(source), build)
}

/// Compiles a file that may be anywhere, C11 or C++17 by its ending, with all warnings as errors.
pub fn compile_file(source: &Path, build: Build) -> PathBuf {
    let name = source.file_stem().expect("a name").to_string_lossy();
    let suffix = match build {
        Build::Shared => "shared",
        Build::Static => "static",
        Build::Sanitized => "sanitized",
    };
    let program = prefix().parent().expect("a folder").join(format!("{name}-{suffix}"));
    let is_cpp = source.extension().is_some_and(|extension| extension == "cpp");
    let mut compiler = if is_cpp {
        let mut compiler = Command::new(std::env::var_os("CXX").unwrap_or("c++".into()));
        compiler.arg("-std=c++17");
        compiler
    } else {
        let mut compiler = Command::new(std::env::var_os("CC").unwrap_or("cc".into()));
        compiler.arg("-std=c11");
        compiler
    };
    compiler.args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-g", "-pthread"]);
    if build == Build::Sanitized {
        compiler.args([
            "-fsanitize=address,undefined",
            "-fno-sanitize-recover=all",
            "-fno-omit-frame-pointer",
        ]);
    }
    compiler.arg("-o").arg(&program).arg(source).args(flags("--cflags", build));
    let flags = flags("--libs", build);
    if build == Build::Static {
        // `-lbise` would take the shared library, which lies beside the static one.
        compiler.arg(prefix().join("lib/libbise.a")).args(flags.iter().filter(|flag| *flag != "-lbise"));
    } else {
        compiler.args(flags);
    }
    succeed(&mut compiler);
    program
}

/// What pkg-config says of the installed library.
fn flags(what: &str, build: Build) -> Vec<String> {
    let mut pkg_config = Command::new("pkg-config");
    pkg_config.env("PKG_CONFIG_PATH", prefix().join("lib/pkgconfig"));
    if build == Build::Static {
        pkg_config.arg("--static");
    }
    let output = succeed(pkg_config.args([what, "bise"]));
    String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

/// A compiled program, to be run with the installed library.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    environment(&mut command);
    command
}

/// A compiled program under memcheck, which fails for any error and for any memory that is lost. Memory to whose middle something points is
/// not lost: std keeps the handle of a thread like that, also of the main one.
pub fn valgrind(program: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command.args(["--error-exitcode=99", "--leak-check=full", "--errors-for-leak-kinds=definite,indirect"]);
    command.args(["--quiet", "--fair-sched=yes"]).arg(program);
    environment(&mut command);
    command
}

fn environment(command: &mut Command) {
    command.env("LD_LIBRARY_PATH", prefix().join("lib")).env_remove("LD_PRELOAD");
    command.env("ASAN_OPTIONS", "detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1");
    command.env("UBSAN_OPTIONS", "print_stacktrace=1");
}

/// Runs a command that must succeed.
pub fn succeed(command: &mut Command) -> Output {
    let output = run(command);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Runs a command.
pub fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| {
        panic!("{:?}: {error} (these tests need cc, c++, make and pkg-config)", command.get_program())
    })
}

/// What a program wrote to stdout.
pub fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

/// What a program wrote to stderr.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
