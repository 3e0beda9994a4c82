use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// macOS allows so many whatever it says.
const MACOS_MAX: u64 = 10_240;

pub(crate) fn raise_open_files() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let most = match cfg!(target_os = "macos") {
        true => Some(maximum.map_or(MACOS_MAX, |most| most.min(MACOS_MAX))),
        false => maximum,
    };
    let raised = Rlimit {
        current: most,
        maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => most,
        Err(_) => current,
    }
}
