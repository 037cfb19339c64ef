//! Gives the shared library the name that programs look for at run time.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |key: &str| std::env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    // Until 1.0 every minor version may change the ABI; `BISE_ABI_VERSION` says when it did.
    let major = std::env::var("CARGO_PKG_VERSION_MAJOR").unwrap_or_default();
    if target("FAMILY") == "unix" && target("VENDOR") != "apple" {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libbise.so.{major}");
    } else if target("VENDOR") == "apple" {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libbise.{major}.dylib");
    }
}
