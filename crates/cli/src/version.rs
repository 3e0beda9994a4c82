//! What `gogrid --version` says.

use std::sync::LazyLock;

use corpgrid_scheduler::BuiltIn;

/// The version, the commit, and what is built in. No driver is loaded for it.
pub(crate) fn long() -> &'static str {
    static LONG: LazyLock<String> = LazyLock::new(text);
    &LONG
}

fn text() -> String {
    let BuiltIn {
        instructions,
        gpu_interfaces,
    } = BuiltIn::of_this_build();
    let commit = option_env!("GOGRID_COMMIT").unwrap_or("not known: not built in its repository");
    let gpus = match gpu_interfaces.is_empty() {
        true => "not built in".to_owned(),
        false => format!("through {}", gpu_interfaces.join(", ")),
    };
    format!(
        "{}\ncommit: {commit}\nCPU: built in, computes with {instructions} here\nGPU: {gpus}",
        env!("CARGO_PKG_VERSION")
    )
}
